"""Which records repeat others: exactly, nearly, or ones that are held out.

Hashes that can meet are written to files while the records pass, one file per band of the signature.
Then one file after the other is sorted, and only records that stand side by side in one are
compared, word by word. Memory depends on the size of a part of one file, not on the data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trimtab_pipelines.preparation import similarity
from trimtab_pipelines.preparation.records import texts_of
from trimtab_pipelines.preparation.spool import Group, Spool
from trimtab_pipelines.preparation.spreading import Workers
from trimtab_pipelines.prepared import Record

NONE = -1
_BATCH = 1024
# So many hashes are sorted at once: 16 bytes each.
_PART = 1 << 22
# In a crowd that shares a band, so many different records are compared with.
_LEADERS = 16
# Far below the threshold the signature alone says no: five standard deviations.
_SURE_DISTANCE = 0.2
_REMEMBERED_PAIRS = 1 << 20
_REMEMBERED_RUNS = 4096


def text_of(record: Record) -> str:
    """What is compared."""
    return "\n".join(texts_of(record))


@dataclass(frozen=True)
class Alike:
    """For each record the earlier or held-out one that it repeats, or NONE.

    `near` points within the record's own split, `held_out` from the training split to the other
    two, `other` from the training split to held-out records of other data.
    """

    exact: NDArray[Any]
    near: NDArray[Any]
    held_out: NDArray[Any]
    other: NDArray[Any]


def exact_repeats(spool: Spool) -> NDArray[Any]:
    """For each record the first one that is equal to it, or NONE."""
    first = spool.column("exact", np.int64, NONE)
    digests = spool.digests()
    groups = spool.groups
    for members in _meetings(digests[:, 0] if len(spool) else np.zeros(0, np.uint64), None):
        earlier: dict[int, int] = {}
        for number in members:
            if groups[number] == Group.OTHER:
                continue
            second = int(digests[number, 1])
            if second in earlier:
                first[number] = earlier[second]
            else:
                earlier[second] = number
    return first


def find_alike(spool: Spool, threshold: float, everybody: Workers) -> Alike:
    """Compare all records that share a band; their signatures are made by everybody."""
    exact = exact_repeats(spool)
    alike = Alike(
        exact,
        spool.column("near", np.int64, NONE),
        spool.column("held_out", np.int64, NONE),
        spool.column("other", np.int64, NONE),
    )
    if len(spool):
        with _Index(spool, exact, threshold, everybody) as index:
            judge = _Judge(spool, index.short, threshold)
            clusters = _Clusters(alike.near)
            for members in index.meetings():
                _compare(members, spool.groups, judge, clusters, alike)
            clusters.settle()
    return alike


def _compare(
    members: list[int],
    groups: NDArray[np.uint8],
    judge: "_Judge",
    clusters: "_Clusters",
    alike: Alike,
) -> None:
    leaders: dict[int, list[int]] = {group: [] for group in Group}
    for number in members:
        own = leaders[int(groups[number])]
        for leader in own:
            if clusters.joined(number, leader):
                break
            if judge.are_alike(number, leader):
                clusters.join(number, leader)
                break
        else:
            if len(own) < _LEADERS:
                own.append(number)
    held_out = leaders[Group.VALIDATION] + leaders[Group.TEST]
    if not held_out and not leaders[Group.OTHER]:
        return
    for number in members:
        if groups[number] == Group.TRAIN:
            _mark(number, held_out, alike.held_out, judge)
            _mark(number, leaders[Group.OTHER], alike.other, judge)


def _mark(number: int, others: list[int], marks: NDArray[Any], judge: "_Judge") -> None:
    if marks[number] != NONE:
        return
    for other in others:
        if judge.are_alike(number, other):
            marks[number] = other
            return


class _Clusters:
    """Records that are alike, directly or through others; the first of each stays (union-find)."""

    def __init__(self, parents: NDArray[Any]) -> None:
        self._parents = parents

    def joined(self, one: int, other: int) -> bool:
        return self._root(one) == self._root(other)

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        if first != second:
            self._parents[second] = first

    def settle(self) -> None:
        """Have every member point at the first of its cluster."""
        for number in np.flatnonzero(self._parents != NONE):
            self._parents[number] = self._root(int(number))

    def _root(self, number: int) -> int:
        parents = self._parents
        root = number
        while (parent := int(parents[root])) != NONE:
            root = parent
        while number != root:
            following = int(parents[number])
            parents[number] = root
            number = following
        return root


class _Judge:
    """Whether two records are alike; the same pair meets in many bands and is compared once."""

    def __init__(self, spool: Spool, short: NDArray[np.uint8], threshold: float) -> None:
        self._spool = spool
        self._short = short
        self._threshold = threshold
        self._unlike: set[tuple[int, int]] = set()
        self._runs: dict[int, similarity.Hashes] = {}

    def are_alike(self, one: int, other: int) -> bool:
        pair = (one, other)
        if pair in self._unlike:
            return False
        guess = similarity.estimate(self._short[one], self._short[other])
        if guess > self._threshold - _SURE_DISTANCE:
            found = similarity.jaccard(self._runs_of(one), self._runs_of(other))
            if found >= self._threshold:
                return True
        if len(self._unlike) >= _REMEMBERED_PAIRS:
            self._unlike.clear()
        self._unlike.add(pair)
        return False

    def _runs_of(self, number: int) -> similarity.Hashes:
        if number not in self._runs:
            if len(self._runs) >= _REMEMBERED_RUNS:
                self._runs.clear()
            self._runs[number] = similarity.runs(text_of(self._spool.record(number)))
        return self._runs[number]


class _Index:
    """Signatures and bands of all records but exact repeats, in files."""

    def __init__(
        self, spool: Spool, exact: NDArray[Any], threshold: float, everybody: Workers
    ) -> None:
        self._rows = similarity.rows_per_band(threshold)
        self._bands = similarity.PERMUTATIONS // self._rows
        self._count = len(spool)
        self._alive = exact == NONE
        self._paths = [spool.folder / f"band-{number}" for number in range(self._bands)]
        self._short_path = spool.folder / "signatures"
        self._write(spool, everybody)
        self.short: NDArray[np.uint8] = np.memmap(
            self._short_path, dtype=np.uint8, mode="r"
        ).reshape(self._count, similarity.PERMUTATIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path in (*self._paths, self._short_path):
            path.unlink(missing_ok=True)

    def meetings(self) -> Iterator[list[int]]:
        """Records that share a band, in their order; a file is gone once it has been looked at."""
        for path in self._paths:
            yield from _meetings(np.memmap(path, dtype=np.uint64, mode="r"), self._alive)
            path.unlink()

    def _write(self, spool: Spool, everybody: Workers) -> None:
        files = [path.open("wb", buffering=1 << 16) for path in self._paths]
        with self._short_path.open("wb") as short:
            for found in everybody.each(similarity.signatures, _batches(spool)):
                short.write(similarity.short_signatures(found).tobytes())
                hashes = similarity.band_hashes(found, self._rows).T.copy()
                for file, band in zip(files, hashes, strict=True):
                    file.write(band.tobytes())
        for file in files:
            file.close()


def _batches(spool: Spool) -> Iterator[list[str]]:
    records = spool.records()
    while batch := list(islice(records, _BATCH)):
        yield [text_of(record) for record in batch]


def _meetings(hashes: NDArray[np.uint64], alive: NDArray[np.bool_] | None) -> Iterator[list[int]]:
    """Groups of two or more positions with the same hash, each in ascending order."""
    parts = -(-len(hashes) // _PART)
    width = np.uint64(2**64 // parts + 1 if parts > 1 else 0)
    for part in range(parts):
        places = _places(hashes, alive, width, part)
        values = hashes[places]
        order = np.argsort(values, kind="stable")
        values, places = values[order], places[order]
        edges = np.flatnonzero(np.diff(values)) + 1
        starts = np.concatenate(([0], edges))
        ends = np.concatenate((edges, [len(values)]))
        for start, end in zip(
            starts[ends - starts > 1].tolist(), ends[ends - starts > 1].tolist(), strict=True
        ):
            yield places[start:end].tolist()


def _places(
    hashes: NDArray[np.uint64], alive: NDArray[np.bool_] | None, width: np.uint64, part: int
) -> NDArray[np.int64]:
    """Where the hashes of this part of their range stand."""
    found = []
    for start in range(0, len(hashes), _PART):
        chunk = hashes[start : start + _PART]
        chosen = np.ones(len(chunk), dtype=bool) if not width else chunk // width == part
        if alive is not None:
            chosen &= alive[start : start + _PART]
        found.append(np.flatnonzero(chosen) + start)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
