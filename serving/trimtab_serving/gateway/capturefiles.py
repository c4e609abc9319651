"""Files of kept lines on a volume that gateways of a service may share: bounded in size and age.

One file per gateway and hour, so that nobody writes into another's and what is too old goes by
whole files. A full volume, or one that fails, loses lines and harms nothing else.
"""

import errno
import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

WRITTEN: Final = "written"
FULL: Final = "full"
FAILED: Final = "failed"
SWEEP_SECONDS: Final = 60.0
_HOUR: Final = "%Y%m%dT%H"
_NAME: Final = re.compile(r"(\d{8}T\d{2})-[a-zA-Z0-9.-]+\.jsonl")
_MODE: Final = 0o660  # for the pods of the namespace, which share the group


class CaptureFiles:
    """Writes lines; called from one thread at a time."""

    def __init__(
        self,
        directory: Path,
        writer: str,
        *,
        retention_seconds: float,
        max_bytes: int,
        wall: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._writer = re.sub(r"[^a-zA-Z0-9.-]", "-", writer) or "gateway"
        self._retention_seconds = retention_seconds
        self._max_bytes = max_bytes
        self._wall = wall
        self._size = 0
        self._swept = float("-inf")

    def write(self, lines: list[bytes]) -> str:
        """What became of the lines: all of them, or none."""
        try:
            self.sweep()
            data = b"".join(lines)
            if not data:
                return WRITTEN
            if self._size + len(data) > self._max_bytes:
                return FULL
            self._append(data)
            self._size += len(data)
        except OSError as fault:
            is_full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
            logger.warning("%d lines could not be kept: %s", len(lines), fault)
            return FULL if is_full else FAILED
        return WRITTEN

    def _append(self, data: bytes) -> None:
        hour = datetime.fromtimestamp(self._wall(), UTC)
        name = f"{hour:{_HOUR}}-{self._writer}.jsonl"
        file = os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)
        try:
            before = os.fstat(file).st_size
            try:
                _write_all(file, data)
            except OSError:
                os.ftruncate(file, before)  # half a line would be no line
                raise
        finally:
            os.close(file)

    def sweep(self) -> None:
        """Delete what is too old, whoever wrote it, and see how much is there."""
        now = self._wall()
        if 0 <= now - self._swept < SWEEP_SECONDS:
            return
        size = 0
        with os.scandir(self._directory) as entries:
            for entry in entries:
                found = _NAME.fullmatch(entry.name)
                if found is None:
                    continue
                began = datetime.strptime(found[1], _HOUR).replace(tzinfo=UTC)
                try:
                    if now - began.timestamp() >= self._retention_seconds:
                        Path(entry.path).unlink(missing_ok=True)
                    else:
                        size += entry.stat().st_size
                except FileNotFoundError:  # another gateway was quicker
                    continue
        self._size, self._swept = size, now


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
