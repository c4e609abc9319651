"""Small file operations that several modules share."""

import os
from pathlib import Path


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
