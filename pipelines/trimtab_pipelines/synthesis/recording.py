"""What a teacher has answered, kept by what it was asked: with it the same data can be made again.

An artifact with one file, a line per question in the order of the texts.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.chat import Question
from trimtab_pipelines.preparation.records import canonical
from trimtab_pipelines.runtime import RunError

FILE = "recording.jsonl"
KIND = "TeacherRecording"
_LONGEST_LINE = 16 << 20
_KEY_BYTES = 32


def key_of(question: Question, model: str) -> bytes:
    """What stands for a question: the digest of all that is sent."""
    return hashlib.sha256(canonical(question.body(model)).encode()).digest()


class Recording:
    """Answers that are known from before, and those of this run. Texts lie on the disk, keys in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._file = (folder / FILE).open("wb")
        self._earlier: list[BinaryIO] = []
        self._known: dict[bytes, tuple[int, int]] = {}

    def load(self, path: Path, name: str) -> None:
        """Know the answers of an earlier recording, before those that are known already."""
        number = len(self._earlier)
        file = path.open("rb")
        self._earlier.append(file)
        for key, place in _lines(file, name):
            self._known[key] = (number, place)

    def known(self, key: bytes) -> str | None:
        place = self._known.get(key)
        if place is None:
            return None
        file = self._earlier[place[0]]
        file.seek(place[1])
        return str(json.loads(file.readline())["answer"])

    def keep(self, key: bytes, answer: str) -> None:
        """Write down an answer of this run."""
        line = canonical({"answer": answer, "key": key.hex()})
        self._file.write(line.encode() + b"\n")

    def entries(self) -> Iterator[tuple[bytes, str]]:
        """What was kept so far."""
        self._file.flush()
        with (self.folder / FILE).open("rb") as file:
            for line in file:
                value = json.loads(line)
                yield bytes.fromhex(value["key"]), value["answer"]

    def close(self) -> None:
        for file in (self._file, *self._earlier):
            file.close()

    def complete(self) -> Path:
        """The folder, with all that was kept."""
        self._file.close()
        return self.folder


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[bytes, int]]:
    place = 0
    while line := file.readline(_LONGEST_LINE):
        found = _entry(line)
        if found is None:
            raise RunError(
                FailureReason.RECORDING_INVALID,
                f"{name} is no recording of a teacher; name the address in status.recording of a Dataset",
            )
        yield found, place
        place += len(line)


def _entry(line: bytes) -> bytes | None:
    try:
        value: Any = json.loads(line)
        key = bytes.fromhex(value["key"])
        return key if len(key) == _KEY_BYTES and isinstance(value["answer"], str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
