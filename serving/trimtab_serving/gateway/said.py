"""What an answer said, from the bytes that went to the user. Pure; runs beside the path, never on it."""

import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

# As OpenAI's API says that a filter has cut an answer.
FILTERED: Final = "content_filter"
FINISHES: Final = frozenset({"stop", "length", "tool_calls", FILTERED})
OTHER: Final = "other"
EMPTY: Final = "empty"
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"(\w+)"')
_DATA: Final = b"data:"
_LINES_PER_STEP: Final = 64


@dataclass(frozen=True, slots=True)
class Said:
    """The first choice of an answer; `finish` is one of a fixed set.

    What a filter has left nothing of is empty, and filtered all the same.
    """

    text: str
    finish: str
    is_filtered: bool = False


def of_body(body: bytes) -> Said | None:
    """A whole answer; None for what is none."""
    choice = _first_choice(_json(body))
    if choice is None:
        return None
    message = choice.get("message")
    part: Mapping[str, Any] = message if isinstance(message, Mapping) else choice
    text, reason = _text(part), choice.get("finish_reason")
    return Said(text, _finish(text, _has_tool_calls(part), reason), reason == FILTERED)


def of_stream(
    pieces: Iterable[bytes], *, is_whole: bool = True
) -> Generator[None, None, Said | None]:
    """Events of a stream, in steps; head and tail will do to know how it began and why it ended."""
    data = b"".join(pieces)
    texts: list[str] = []
    has_said = not is_whole
    is_answer = False
    for number, line in enumerate(data.split(b"\n")):
        if number % _LINES_PER_STEP == _LINES_PER_STEP - 1:
            yield
        choice = _first_choice(_json(line[len(_DATA) :])) if line.startswith(_DATA) else None
        if choice is None or choice.get("index", 0) != 0:
            continue
        is_answer = True
        delta = choice.get("delta")
        part: Mapping[str, Any] = delta if isinstance(delta, Mapping) else choice
        texts.append(_text(part))
        has_said = has_said or _has_tool_calls(part)
    if not is_answer:
        return None
    text = "".join(texts)
    reasons = _FINISH.findall(data)
    reason = reasons[-1].decode() if reasons else None
    return Said(text, _finish(text, has_said, reason), reason == FILTERED)


def _json(data: bytes) -> object:
    try:
        return from_json(data)
    except ValueError:
        return None


def _first_choice(answer: object) -> Mapping[str, Any] | None:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        return None
    return choices[0]


def _text(part: Mapping[str, Any]) -> str:
    found = part.get("content", part.get("text"))
    return found if isinstance(found, str) else ""


def _has_tool_calls(part: Mapping[str, Any]) -> bool:
    return bool(part.get("tool_calls") or part.get("function_call"))


def _finish(text: str, has_said: bool, reason: object) -> str:
    if not text.strip() and not has_said:
        return EMPTY
    return reason if isinstance(reason, str) and reason in FINISHES else OTHER
