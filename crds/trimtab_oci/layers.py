"""Tar layers: written so that equal files give equal bytes, read so that nothing leaves its place.

A layer of ours holds one file. It is never written to disk a second time: header, content and
padding are put together while they are hashed and sent.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from trimtab_oci.errors import UnsafeArtifact
from trimtab_oci.format import ANNOTATION_FILE, TAR, Descriptor

CHUNK_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_END = b"\0" * (2 * _BLOCK)
_PARTIAL = ".partial"
_LARGEST_RATIO = 200
_ALWAYS_FITTING_BYTES = 64 << 20


class Readable(Protocol):
    """What a tar is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Next bytes; none at the end."""
        ...


@dataclass(frozen=True)
class FileLayer:
    """One file as it will stand in its layer."""

    path: Path
    name: str
    size: int

    def chunks(self) -> Iterator[bytes]:
        """The layer's bytes."""
        info = tarfile.TarInfo(self.name)
        info.size = self.size
        info.mode = 0o644
        yield info.tobuf(tarfile.PAX_FORMAT)
        left = self.size
        with self.path.open("rb") as file:
            while left:
                data = file.read(min(CHUNK_BYTES, left))
                if not data:
                    raise UnsafeArtifact(f"{self.name} became shorter while it was read")
                left -= len(data)
                yield data
        yield b"\0" * (-self.size % _BLOCK) + _END

    def descriptor(self) -> Descriptor:
        """Digest and size of the layer; reads the whole file."""
        sha = hashlib.sha256()
        size = 0
        for chunk in self.chunks():
            sha.update(chunk)
            size += len(chunk)
        return Descriptor(TAR, f"sha256:{sha.hexdigest()}", size, {ANNOTATION_FILE: self.name})


def directory_layers(directory: Path) -> list[FileLayer]:
    """One layer per file, sorted by name; links and special files are refused."""
    layers = []
    for path in sorted(directory.rglob("*"), key=lambda p: p.relative_to(directory).as_posix()):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UnsafeArtifact(
                f"{path.relative_to(directory)} is neither a file nor a directory; copy its content"
            )
        if path.is_file():
            layers.append(
                FileLayer(path, path.relative_to(directory).as_posix(), path.stat().st_size)
            )
    if not layers:
        raise UnsafeArtifact(f"{directory} holds no files")
    return layers


def safe_target(directory: Path, name: str) -> Path:
    """Where a file of this name goes; names that lead elsewhere are refused."""
    directory.mkdir(parents=True, exist_ok=True)
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or "\\" in name or name.startswith("/") or ".." in parts:
        raise UnsafeArtifact(f"the artifact holds a path that leaves its directory: {name!r}")
    root = directory.resolve()
    target = root.joinpath(*parts)
    if not target.parent.resolve().is_relative_to(root):
        raise UnsafeArtifact(f"the artifact holds a path that leads through a link: {name!r}")
    return target


class Staging:
    """Files that count only once their layer has been verified."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._staged: list[tuple[Path, Path]] = []

    def write(self, name: str, source: Readable) -> None:
        """Copy a file next to where it will stand."""
        target = safe_target(self._directory, name)
        if target.is_dir():
            raise UnsafeArtifact(f"the artifact holds {name!r} both as a file and as a directory")
        self._make_directory(target.parent, name)
        partial = target.with_name(f".{target.name}{_PARTIAL}")
        self._staged.append((partial, target))
        with partial.open("wb") as file:
            while data := source.read(CHUNK_BYTES):
                file.write(data)

    def make_directory(self, name: str) -> None:
        """Make a directory of the artifact."""
        if PurePosixPath(name).parts:
            self._make_directory(safe_target(self._directory, name), name)

    def _make_directory(self, path: Path, name: str) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UnsafeArtifact(
                f"the artifact holds a file where {name!r} needs a directory"
            ) from error

    def commit(self) -> None:
        """Put everything in its place."""
        for partial, target in self._staged:
            partial.replace(target)
        self._staged.clear()

    def discard(self) -> None:
        """Leave nothing behind."""
        for partial, _ in self._staged:
            with suppress(FileNotFoundError):
                partial.unlink()
        self._staged.clear()


def most_unpacked(size: int) -> int:
    """What an honest layer of this size unpacks to at most."""
    return max(_ALWAYS_FITTING_BYTES, size * _LARGEST_RATIO)


def unpack(source: Readable, staging: Staging, *, gzipped: bool, most: int | None = None) -> None:
    """Read a tar to its end; only plain files and directories are accepted, of `most` bytes in all."""
    unpacked = 0
    try:
        # The mode with a bar never seeks, so a layer is read as it arrives.
        with tarfile.open(
            fileobj=source, mode="r|gz" if gzipped else "r|", bufsize=CHUNK_BYTES
        ) as archive:  # type: ignore[call-overload]  # only read() is asked of it
            for member in archive:
                unpacked += member.size
                if most is not None and unpacked > most:
                    raise UnsafeArtifact(
                        f"the layer unpacks to more than {most >> 20} MiB, out of all proportion to "
                        "its size; push it without compression if that is meant"
                    )
                _unpack_member(archive, member, staging)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UnsafeArtifact(f"the layer cannot be read as a tar: {error}") from error
    while source.read(CHUNK_BYTES):  # what follows the end mark counts for the digest
        pass


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, staging: Staging) -> None:
    if member.isdir():
        staging.make_directory(member.name)
    elif _is_plain(member) and (content := archive.extractfile(member)):
        staging.write(member.name, content)
    else:
        raise UnsafeArtifact(
            f"the artifact holds {member.name!r}, which is neither a file nor a directory"
        )


def _is_plain(member: tarfile.TarInfo) -> bool:
    # A sparse file is small in the layer and can be of any size on disk.
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
