"""API keys: who may enter, and how soon a change counts."""

from pathlib import Path

import pytest

from trimtab_serving.keys import ApiKeys
from trimtab_serving.openai import ApiError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory as the kubelet makes it: links into a hidden directory that is swapped whole."""
    mount(tmp_path, "first", {"alice": "key-1", "bob": "key-2\n", "empty": ""})
    return tmp_path


def mount(directory: Path, name: str, files: dict[str, str]) -> None:
    fresh = directory / f"..{name}"
    fresh.mkdir()
    for key, text in files.items():
        (fresh / key).write_text(text)
    link = directory / "..next"
    link.symlink_to(fresh.name)
    link.replace(directory / "..data")
    for old in [p for p in directory.iterdir() if not p.name.startswith("..")]:
        old.unlink()
    for key in files:
        (directory / key).symlink_to(Path("..data") / key)


CASES = {
    "a key enters": (b"Bearer key-1", None),
    "a line break at a file's end is no part of a key": (b"bearer key-2", None),
    "nothing is presented": (None, "didn't provide"),
    "another scheme": (b"Basic key-1", "didn't provide"),
    "a wrong key": (b"Bearer key-3", "Incorrect"),
    "the begin of a key": (b"Bearer key-", "Incorrect"),
    "an empty key": (b"Bearer ", "Incorrect"),
    "a file's name": (b"Bearer alice", "Incorrect"),
    "bytes that are no text": (b"Bearer \xff\xfe", "Incorrect"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_who_enters(keys: Path, case: tuple[bytes | None, str | None]) -> None:
    presented, refusal = case
    guard = ApiKeys(keys, Clock())
    if refusal is None:
        guard.check(presented)
        return
    with pytest.raises(ApiError, match=refusal) as refused:
        guard.check(presented)
    assert refused.value.status == 401


def test_a_swapped_secret_counts_within_a_second(keys: Path) -> None:
    clock = Clock()
    guard = ApiKeys(keys, clock)
    mount(keys, "second", {"alice": "key-9"})
    clock.now += 1.0
    guard.check(b"Bearer key-9")
    with pytest.raises(ApiError):
        guard.check(b"Bearer key-1")


def test_a_directory_that_cannot_be_read_keeps_the_last_keys(keys: Path) -> None:
    clock = Clock()
    guard = ApiKeys(keys, clock)
    keys.rename(keys.parent / "away")
    clock.now += 5
    guard.check(b"Bearer key-1")


def test_a_secret_without_keys_lets_nobody_in(tmp_path: Path) -> None:
    with pytest.raises(ApiError):
        ApiKeys(tmp_path, Clock()).check(b"Bearer ")


def test_without_a_directory_the_door_is_open() -> None:
    ApiKeys(None, Clock()).check(None)
