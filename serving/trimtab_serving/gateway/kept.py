"""Exchanges and feedback as they are kept: one line of JSON each, redacted before it leaves this module.

Who asked is in no line. What the forms of `trimtab_api` find is replaced by its kind; names and
whatever else has no form stays, which is why nothing is kept unless somebody asks for it.
"""

import json
import re
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from trimtab_api import personalforms, secretforms
from trimtab_serving.gateway.exchange import Exchange
from trimtab_serving.gateway.said import Said

EXCHANGE: Final = "exchange"
FEEDBACK: Final = "feedback"
MOST_CHARACTERS: Final = 64 * 1024
# Patterns are tried on so much at a time. A find that is cut by a border would be missed, so borders
# are at ends of lines or between two words: numbers are written with blanks in them.
_PART: Final = 1024
_BETWEEN_WORDS: Final = re.compile(r"(?<=[^\W\d] )(?=[^\W\d])|(?<=\n)")
_ROLES: Final = frozenset({"system", "user", "assistant"})

Made = TypeVar("Made")
Redacting = Generator[None, None, str]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What somebody says about a response."""

    rating: str | None = None
    correction: str | None = None
    labels: tuple[str, ...] = ()


def texts_of(content: object) -> list[tuple[str, str]] | None:
    """Roles and texts of a request; None where it is not all text."""
    if isinstance(content, str):
        return [("user", content)]
    if not isinstance(content, list) or not content:
        return None
    found = []
    for message in content:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            return None
        if not isinstance(message.get("content"), str):
            return None
        found.append((message["role"], message["content"]))
    return found


def exchange_line(
    exchange: Exchange, answer: Said, texts: Sequence[tuple[str, str]], seconds: int
) -> Generator[None, None, bytes]:
    """The line of an exchange; a step for each part of its texts."""
    found: Counter[str] = Counter()
    messages = []
    for role, text in texts:
        clean = yield from redacted(text, found)
        messages.append({"role": role, "content": clean})
    said = yield from redacted(answer.text, found)
    return _line(
        {
            "kind": EXCHANGE,
            "id": exchange.nonce,
            "time": seconds,
            "model": exchange.model,
            "version": exchange.version,
            "messages": messages,
            "answer": said,
            "finish": answer.finish,
            "redacted": dict(sorted(found.items())),
        }
    )


def feedback_line(nonce: str, pair: tuple[str, str], opinion: Opinion, seconds: int) -> bytes:
    """The line of what somebody said about a response."""
    values: dict[str, Any] = {
        "kind": FEEDBACK,
        "id": nonce,
        "time": seconds,
        "model": pair[0],
        "version": pair[1],
    }
    if opinion.rating is not None:
        values["rating"] = opinion.rating
    if opinion.correction is not None:
        values["correction"] = whole(redacted(opinion.correction, Counter()))
    if opinion.labels:
        values["labels"] = [whole(redacted(label, Counter())) for label in opinion.labels]
    return _line(values)


def redacted(text: str, found: Counter[str]) -> Redacting:
    """The text with the kind in place of each find."""
    parts = []
    keys = secretforms.private_keys_in(text)
    found["SECRET"] += len(keys)
    for part in _parts(secretforms.masked(text, keys)):
        spans = secretforms.found_in(part)
        found["SECRET"] += len(spans)
        part = secretforms.masked(part, spans)  # noqa: PLW2901 - one redaction after the other
        spans = personalforms.found_in(part)
        found.update(span.kind for span in spans)
        parts.append(secretforms.masked(part, spans, None))
        yield
    found += Counter()  # without those that were not found
    return "".join(parts)


def whole(steps: Generator[None, None, Made]) -> Made:
    """All steps at once, for texts that are short."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Made = end.value
            return made


def _parts(text: str) -> list[str]:
    parts = []
    start = 0
    while len(text) - start > _PART:
        borders = [m.start() for m in _BETWEEN_WORDS.finditer(text, start + 1, start + _PART)]
        end = borders[-1] if borders else start + _PART
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:]]


def _line(values: dict[str, Any]) -> bytes:
    # Half of a surrogate pair, which JSON can spell and no text can hold, becomes a question mark.
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"
