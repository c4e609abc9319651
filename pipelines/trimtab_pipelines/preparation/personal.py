"""Personal data in texts, by presidio's patterns and checksums, by lists, and by what is plugged in.

Names and places need a model of a language, and none is shipped: what is found is what has a form,
and what stands in a list. A package in an image of one's own can bring such a model (PLUGINS).
presidio raises its confidence where words nearby tell what a number is; its own way to do so needs
such a model, too, so the words before the find are looked at as they stand.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from trimtab_api.reasons import FailureReason
from trimtab_api.secretforms import Span, without_overlaps
from trimtab_api.v1alpha1.cleaning import NameList
from trimtab_pipelines.preparation.wordlists import load_names
from trimtab_pipelines.runtime import RunError

# What has few look-alikes. The numbers of single countries have many: they are looked for on request.
DEFAULT_ENTITIES = (
    "CREDIT_CARD",
    "CRYPTO",
    "EMAIL_ADDRESS",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "PHONE_NUMBER",
    "US_SSN",
)
# Entry points of installed packages: the name is the kind, the object makes a Finder of it.
PLUGINS: Final = "trimtab.personal_data"
PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*>")

# presidio loads them where they are installed, for seconds and half a gigabyte, to run models with.
_MODEL_LIBRARIES = ("torch", "transformers")
_LEAST_SCORE = 0.4
# presidio's figures: what a telling word adds, and how far away it may be.
_CONTEXT_ADDS = 0.35
_CONTEXT_CHARACTERS = 50
# What a text must have for a pattern to be tried; patterns cost far more than this.
_DIGITS = re.compile(r"\d(?:\D{0,4}\d){6}")
_NEEDED = {
    "CREDIT_CARD": _DIGITS,
    "EMAIL_ADDRESS": re.compile("@"),
    "IBAN_CODE": re.compile(r"[A-Z]{2}\d\d"),
    "IP_ADDRESS": re.compile(r"\d\.\d|:[0-9a-fA-F]{0,4}:"),
    "MAC_ADDRESS": re.compile(
        r"[0-9a-fA-F]{2}[:-][0-9a-fA-F]{2}[:-]|[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}"
    ),
    "PHONE_NUMBER": _DIGITS,
    "US_SSN": _DIGITS,
}


class Finder(Protocol):
    """What a plugged-in package gives: places of one kind, as beginnings and ends in the text."""

    def __call__(self, text: str) -> Iterable[tuple[int, int]]:
        """The places, in any order."""
        ...


class PersonalData:
    """Looks for some kinds of personal data."""

    def __init__(self, entities: Sequence[str], names: Sequence[NameList] = ()) -> None:
        wanted = sorted(set(entities or DEFAULT_ENTITIES))
        known, plugged = _recognizers(), {p.name: p for p in entry_points(group=PLUGINS)}
        unknown = [name for name in wanted if name not in known and name not in plugged]
        if unknown:
            raise RunError(
                FailureReason.SETTING_UNKNOWN,
                f"clean.pii.entities names {', '.join(unknown)}, which no pattern finds (names and "
                "places would need a model of the language; clean.pii.names has lists of them); "
                f"there are: {', '.join(sorted({*known, *plugged}))}",
            )
        # Who plugs in another finder of a kind means that one.
        self._plugged: list[tuple[str, Finder]] = [
            (name, plugged[name].load()()) for name in wanted if name in plugged
        ]
        self._recognizers = [(name, known[name]()) for name in wanted if name not in plugged]
        self._names = load_names(names)

    def found_in(self, text: str) -> list[Span]:
        """What was found, in its order; finds do not overlap."""
        spans = [span for names in self._names for span in names.found_in(text)]
        for name, find in self._plugged:
            spans += [_checked(Span(start, end, name), text) for start, end in find(text)]
        for name, recognizer in self._recognizers:
            needed = _NEEDED.get(name)
            if needed is not None and not needed.search(text):
                continue
            spans += [
                Span(result.start, result.end, name)
                for result in recognizer.analyze(text, [name], None)
                if _score(result, recognizer, text) >= _LEAST_SCORE
            ]
        return without_overlaps(spans)


def _checked(span: Span, text: str) -> Span:
    """A place that is none would leave unmasked what was found there."""
    if not 0 <= span.start < span.end <= len(text):
        raise RunError(
            FailureReason.SETTING_UNKNOWN,
            f"clean.pii.entities names {span.kind}, whose finder ({PLUGINS}) told the place {span.start} to {span.end} "
            f"in a text of {len(text)} characters; mend that package, or leave the kind out",
        )
    return span


def is_only_personal(text: str) -> bool:
    """Whether nothing but placeholders is left of a text."""
    rest, replaced = PLACEHOLDER.subn("", text)
    return bool(replaced) and not any(character.isalnum() for character in rest)


def _score(result: Any, recognizer: Any, text: str) -> float:
    score = float(result.score)
    if score >= _LEAST_SCORE or not recognizer.context:
        return score
    before = text[max(0, result.start - _CONTEXT_CHARACTERS) : result.start].lower()
    is_told = any(
        re.search(rf"\b{re.escape(word.lower())}\b", before) for word in recognizer.context
    )
    return max(score + _CONTEXT_ADDS, _LEAST_SCORE) if is_told else score


@contextmanager
def _without(libraries: Sequence[str]) -> Iterator[None]:
    """Have an import that can do without these libraries do without them."""
    hidden = [name for name in libraries if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None says: not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@cache
def _recognizers() -> dict[str, Any]:
    """presidio's recognizers that need no model, by what they find."""
    # Only needed where personal data is looked for.
    with _without(_MODEL_LIBRARIES):
        import presidio_analyzer.predefined_recognizers as predefined  # noqa: PLC0415
        import tldextract.tldextract  # noqa: PLC0415
        from presidio_analyzer import PatternRecognizer  # noqa: PLC0415

    # It would fetch the list of domains from the network; what is found must not depend on that.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    found: dict[str, Any] = {"PHONE_NUMBER": predefined.PhoneRecognizer}
    for name in sorted(vars(predefined)):
        kind = getattr(predefined, name)
        if isinstance(kind, type) and issubclass(kind, PatternRecognizer):
            try:
                entities = kind().supported_entities
            except (ImportError, TypeError, ValueError):  # needs a service or a further package
                continue
            for entity in entities:
                found.setdefault(entity, kind)
    return found
