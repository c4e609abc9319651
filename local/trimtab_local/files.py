"""Small file operations that several modules share."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trimtab_local.progress import Progress


@contextmanager
def alone(lock_file: Path, progress: Progress, others: str) -> Iterator[None]:
    """One process at a time holds the lock; a second one says what it waits for.

    The kernel lets go of it when its holder ends, however that comes about.
    """
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"another {others} is at work: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes by renaming, so that a crash leaves the old file or the new one."""
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    staged.replace(path)


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log, without reading all of it."""
    span = count * 400
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - span))
        return file.read().decode(errors="replace").splitlines()[-count:]
