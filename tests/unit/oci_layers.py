"""Tar layers: what is written, and what is refused."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from trimtab_oci.errors import UnsafeArtifact
from trimtab_oci.layers import FileLayer, Staging, most_unpacked, unpack


def tar_of(*members: tarfile.TarInfo, content: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


UNSAFE = {
    "an absolute path": member("/etc/passwd"),
    "a path that goes up": member("a/../../b"),
    "a path of two dots": member(".."),
    "a path of another system": member("a\\..\\..\\b"),
    "a symbolic link": member("a", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": member("a", tarfile.LNKTYPE, "/etc/passwd"),
    "a device": member("a", tarfile.CHRTYPE),
    "a pipe": member("a", tarfile.FIFOTYPE),
    "a directory that goes up": member("../a", tarfile.DIRTYPE),
}


@pytest.mark.parametrize("bad", UNSAFE.values(), ids=UNSAFE)
def test_nothing_leaves_the_directory(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    staging = Staging(inner)
    with pytest.raises(UnsafeArtifact):
        unpack(io.BytesIO(tar_of(member("good"), bad)), staging, gzipped=False)
    staging.discard()
    assert [p.name for p in tmp_path.rglob("*")] == ["inner"]


def test_a_link_that_was_there_before_is_not_followed(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "out").symlink_to(tmp_path)
    with pytest.raises(UnsafeArtifact, match="through a link"):
        unpack(io.BytesIO(tar_of(member("out/a"))), Staging(inner), gzipped=False)


@pytest.mark.parametrize("gzipped", [False, True], ids=["a plain tar", "a compressed tar"])
def test_files_and_directories_are_unpacked(tmp_path: Path, gzipped: bool) -> None:
    data = tar_of(member("d", tarfile.DIRTYPE), member("./d/a"), member("e/f/b"), content=b"hello")
    staging = Staging(tmp_path)
    unpack(io.BytesIO(gzip.compress(data) if gzipped else data), staging, gzipped=gzipped)
    assert not (tmp_path / "d/a").exists()
    staging.commit()
    assert (tmp_path / "d/a").read_bytes() == (tmp_path / "e/f/b").read_bytes() == b"hello"


def test_a_layer_that_unpacks_out_of_all_proportion_is_refused(tmp_path: Path) -> None:
    data = gzip.compress(tar_of(member("a"), content=b"\0" * (80 << 20)))
    with pytest.raises(UnsafeArtifact, match="unpacks to more than 64 MiB"):
        unpack(io.BytesIO(data), Staging(tmp_path), gzipped=True, most=most_unpacked(len(data)))
    assert list(tmp_path.iterdir()) == []


BROKEN = {
    "bytes that are no tar": b"hello" * 500,
    "a tar that is cut off": tar_of(member("a"), content=b"x" * 5000)[:3000],
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UnsafeArtifact, match="cannot be read as a tar"):
        unpack(io.BytesIO(data), Staging(tmp_path), gzipped=False)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1])
def test_a_layer_is_a_tar_with_one_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * size)
    layer = FileLayer(path, "deep/name.bin", size)
    data = b"".join(layer.chunks())
    descriptor = layer.descriptor()
    assert descriptor.size == len(data)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (info,) = archive.getmembers()
        assert (info.name, info.size, info.mode, info.mtime, info.uid, info.gid) == (
            "deep/name.bin",
            size,
            0o644,
            0,
            0,
            0,
        )


def test_a_file_above_eight_gigabytes_has_a_header(tmp_path: Path) -> None:
    header = next(FileLayer(tmp_path, "big", 20 << 30).chunks())
    # The size does not fit the classic header, and goes into an extended one.
    assert len(header) > 512
    assert b"size=21474836480" in header


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    with pytest.raises(UnsafeArtifact, match="became shorter"):
        b"".join(FileLayer(path, "file", 10).chunks())
