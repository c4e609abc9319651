"""Keys, tokens and passwords in texts, by the forms that their makers gave them. Pure."""

import bisect
import math
import re
from collections import Counter
from dataclasses import dataclass

MASK = "<SECRET>"

# (what it is, what must be in the text for the pattern to be tried, the pattern; a group named
# "secret" is what is taken, else all of it)
_FORMS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "private key",
        ("PRIVATE KEY",),
        (
            r"(?s)-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r".*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
    ),
    ("AWS access key", ("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    (
        "AWS secret key",
        ("aws", "AWS", "Aws"),
        (
            r"(?i)aws_?.{0,24}?(?:secret|key)[^\n]{0,24}?(?<![A-Za-z0-9/+])"
            r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"
        ),
    ),
    (
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b",
    ),
    ("GitLab token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("Slack token", ("xox",), r"\bxox[abposr]-[A-Za-z0-9-]{10,}"),
    ("Google API key", ("AIza",), r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("Stripe key", ("k_live_", "k_test_"), r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("OpenAI key", ("sk-",), r"\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,}"),
    ("Hugging Face token", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}\b"),
    (
        "JSON web token",
        ("eyJ",),
        r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    ),
    (
        "password in an address",
        ("://",),
        r"\b[a-z][a-z0-9+.-]*://[^\s:/@]{1,128}:(?P<secret>[^\s:/@]{3,256})@",
    ),
)
_PATTERNS = tuple((kind, hints, re.compile(pattern)) for kind, hints, pattern in _FORMS)

_NAMES = ("passw", "pwd", "secret", "token", "key", "credential")
_ASSIGNED = re.compile(
    r"(?i)(?:password|passwd|passphrase|pwd|secret|token|credentials?|(?:api|access|auth|private)[_-]?key)"
    r"[\w-]{0,32}[\"']?\s{0,3}(?::=|=>|[:=])\s{0,3}[\"'`]?(?P<secret>[^\s\"'`,;<>{}()\[\]]{8,256})"
)
# Words have about 2.5 bits per character at these lengths, made-up passwords more than 3.
_LEAST_BITS = 3.0


@dataclass(frozen=True)
class Span:
    """Where something was found, and what it is."""

    start: int
    end: int
    kind: str


def found_in(text: str) -> list[Span]:
    """Secrets in their order; they do not overlap."""
    spans = [
        _span(match, kind)
        for kind, hints, pattern in _PATTERNS
        if any(hint in text for hint in hints)
        for match in pattern.finditer(text)
    ]
    small = text.lower()
    if any(name in small for name in _NAMES):
        spans += [
            _span(match, "password or key")
            for match in _ASSIGNED.finditer(text)
            if _looks_random(match["secret"])
        ]
    return without_overlaps(spans)


def private_keys_in(text: str) -> list[Span]:
    """Those that go over many lines; all others stand in one."""
    kind, hints, pattern = _PATTERNS[0]
    if not any(hint in text for hint in hints):
        return []
    return [_span(match, kind) for match in pattern.finditer(text)]


def without_overlaps(spans: list[Span]) -> list[Span]:
    """The longest of those that overlap, in their order."""
    taken: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        at = bisect.bisect_left(taken, span.start, key=lambda s: s.start)
        begins_free = at == 0 or taken[at - 1].end <= span.start
        if begins_free and (at == len(taken) or span.end <= taken[at].start):
            taken.insert(at, span)
    return taken


def masked(text: str, spans: list[Span], mask: str | None = MASK) -> str:
    """The text with a mask for each span; without one, the span's kind in angle brackets."""
    parts = []
    position = 0
    for span in spans:
        parts += [text[position : span.start], mask or f"<{span.kind}>"]
        position = span.end
    return "".join([*parts, text[position:]])


def _span(match: re.Match[str], kind: str) -> Span:
    group = "secret" if "secret" in match.re.groupindex else 0
    return Span(match.start(group), match.end(group), kind)


def _looks_random(value: str) -> bool:
    """Whether a value is a secret rather than a word, a variable or a row of stars."""
    if value.startswith(("$", "%", "os.", "env.")) or len(set(value)) < 5:
        return False
    is_mixed = sum(
        (
            any(c.islower() for c in value),
            any(c.isupper() for c in value),
            any(c.isdigit() for c in value),
            any(not c.isalnum() for c in value),
        )
    )
    counts = Counter(value).values()
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return (
        is_mixed >= 2
        and any(not c.isalpha() for c in value)
        and bits >= min(_LEAST_BITS, math.log2(len(value)) * 0.85)
    )
