"""Files that are there as a whole or not at all, also after a crash of the machine."""

import hashlib
import os
import shutil
from pathlib import Path

_CHUNK = 1 << 20


def sync(path: Path) -> None:
    """Have the kernel write a file or a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        sync(path)
    sync(directory)


def put_in_place(part: Path, target: Path) -> None:
    """Give a finished directory its name; a reader sees the old one or the new one, never half."""
    sync_tree(part)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    sync(target.parent)


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
