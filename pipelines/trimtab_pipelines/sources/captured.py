"""What the gateways of a service kept (capture://service), joined with what callers said of it.

Gateways write lines of exchanges and lines of feedback, each by the id of one response. Records are
made of both: a correction is the answer that should have been given; two answers to one prompt, one
rated positive and one negative, are a preference, and so is a correction against what it corrects.
An exchange that nobody said anything about teaches nothing new and makes no record.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trimtab_api.v1alpha1.data import Columns, DatasetTask
from trimtab_pipelines import paths
from trimtab_pipelines.preparation.normalising import normalised
from trimtab_pipelines.sources.access import (
    Access,
    Listed,
    forbidden,
    not_found,
    unreachable,
    unsupported,
)

log = logging.getLogger(__name__)

Messages = list[dict[str, str]]
# A line that a gateway writes is far shorter; a longer one was written by somebody else.
_LONGEST_LINE = 4 << 20


@dataclass
class _Exchange:
    """One response with the last that was said of it."""

    messages: Messages
    answer: str
    rating: str | None = None
    correction: str | None = None
    label: str | None = None


@dataclass
class _Kept:
    """What the files hold, in the order of their names and lines."""

    exchanges: dict[str, _Exchange] = field(default_factory=dict)
    feedback: list[tuple[int, str, Mapping[str, Any]]] = field(default_factory=list)
    unreadable: int = 0

    def take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            if values["kind"] == "exchange":
                messages = [
                    {"role": str(m["role"]), "content": normalised(str(m["content"]))}
                    for m in values["messages"]
                ]
                exchange = _Exchange(messages, normalised(str(values["answer"])))
                self.exchanges.setdefault(str(values["id"]), exchange)
            elif values["kind"] == "feedback":
                self.feedback.append((int(values["time"]), str(values["id"]), values))
        except (ValueError, KeyError, TypeError, RecursionError):
            self.unreadable += 1

    def joined(self) -> list[_Exchange]:
        """Exchanges that something was said of; what was said last counts."""
        said: dict[str, _Exchange] = {}
        for _, name, values in sorted(self.feedback, key=lambda each: each[:2]):
            exchange = self.exchanges.get(name)
            if exchange is None:
                continue
            said[name] = exchange
            exchange.rating = values.get("rating") or exchange.rating
            exchange.correction = normalised(values.get("correction") or "") or exchange.correction
            exchange.label = next(iter(values.get("labels") or ()), exchange.label)
        return [said[name] for name in sorted(said)]


class CaptureReader:
    """One file of records, made of all that is on the claim."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._service = access.uri.partition("://")[2]
        if not self._service or "/" in self._service or ".." in self._service:
            raise unsupported(access, f"{access.uri} is not of the form capture://inferenceservice")
        if access.task is DatasetTask.TEXT:
            raise unsupported(
                access,
                "capture:// holds questions and answers; set task: Instruction, Chat or Preference",
            )
        self._root = paths.inside("/captures") / self._service
        self._columns = access.columns or Columns()

    def listed(self) -> list[Listed]:
        if not self._root.is_dir():
            raise not_found(
                self._access,
                f'the claim "{self._service}-capture" is not mounted; set spec.gateway.capture of the '
                f'InferenceService "{self._service}", and create the claim in this namespace',
            )
        return [Listed("captured.jsonl", f"{self._access.uri}/captured.jsonl")]

    def fetch(self, item: Listed) -> Path:
        kept = self._read()
        wanted = _RECORDS[self._access.task](kept.joined())
        is_labelled = self._columns.label is not None
        records = [parts for parts in wanted if parts["label"] or not is_labelled]
        log.info(
            "%s: %d exchanges and %d pieces of feedback make %d records; %d lines cannot be read",
            self._access.uri,
            len(kept.exchanges),
            len(kept.feedback),
            len(records),
            kept.unreadable,
        )
        path = self._access.workspace / item.key
        with path.open("w", encoding="utf-8") as file:
            for parts in records:
                file.write(json.dumps(self._named(parts)) + "\n")
        return path

    def _read(self) -> _Kept:
        kept = _Kept()
        try:
            for path in sorted(self._root.glob("*.jsonl")):
                with path.open("rb") as file:
                    # The last line may still be on its way.
                    while (line := file.readline(_LONGEST_LINE)) and line.endswith(b"\n"):
                        kept.take(line)
        except PermissionError as error:
            raise forbidden(
                self._access,
                f'"{Path(str(error.filename)).name}" of "{self._service}-capture" may not be read by this pod; '
                "make it readable for group 0",
            ) from error
        except OSError as error:
            raise unreachable(
                self._access, f'"{self._service}-capture" cannot be read: {error}'
            ) from error
        return kept

    def _named(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """The record under the names that this Dataset's columns have."""
        names: dict[str, str | None] = {part: getattr(self._columns, part) for part in parts}
        return {name: parts[part] for part, name in names.items() if name is not None}


def _instructions(said: list[_Exchange]) -> Iterator[dict[str, Any]]:
    """Corrections of answers to a single question; what the system says is no part of it."""
    for each in said:
        prompt = _question(each.messages)
        if each.correction is not None and prompt is not None:
            yield {"prompt": prompt, "completion": each.correction, "label": each.label or ""}


def _chats(said: list[_Exchange]) -> Iterator[dict[str, Any]]:
    """Whole conversations, with the correction for the last answer."""
    for each in said:
        if each.correction is not None and _alternates(each.messages):
            answer = {"role": "assistant", "content": each.correction}
            yield {"messages": [*each.messages, answer], "label": each.label or ""}


def _preferences(said: list[_Exchange]) -> Iterator[dict[str, Any]]:
    """A correction before what it corrects, and what was liked before what was not."""
    liked: dict[str, list[str]] = {}
    disliked: dict[str, list[str]] = {}
    for each in said:
        prompt = _question(each.messages)
        if prompt is None or not each.answer.strip():
            continue
        if each.correction is not None and each.correction != each.answer:
            yield _preference(prompt, each.correction, each.answer)
        if each.rating is not None:
            side = liked if each.rating == "positive" else disliked
            side.setdefault(prompt, []).append(each.answer)
    for prompt in sorted(liked.keys() & disliked.keys()):
        # Each answer once: a prompt that a thousand ask must not become a thousand records.
        better, worse = sorted(set(liked[prompt])), sorted(set(disliked[prompt]))
        for chosen, rejected in zip(better, worse, strict=False):
            if chosen != rejected:
                yield _preference(prompt, chosen, rejected)


def _preference(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "label": ""}


def _question(messages: Messages) -> str | None:
    """The one thing that a person asked; None for a conversation of several turns."""
    turns = [m for m in messages if m["role"] != "system"]
    if len(turns) != 1 or turns[0]["role"] != "user" or not turns[0]["content"].strip():
        return None
    return turns[0]["content"]


def _alternates(messages: Messages) -> bool:
    roles = [m["role"] for m in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    expected = (["user", "assistant"] * len(turns))[: len(turns)]
    is_full = all(message["content"].strip() for message in messages)
    return is_full and turns == expected and len(turns) % 2 == 1


_RECORDS: dict[DatasetTask, Callable[[list[_Exchange]], Iterator[dict[str, Any]]]] = {
    DatasetTask.INSTRUCTION: _instructions,
    DatasetTask.CHAT: _chats,
    DatasetTask.PREFERENCE: _preferences,
}
