"""What is told about prepared data: counts of all records, and what takes longer of a sample of them.

The sample are the records whose digests are smallest: no part of the data is favoured, and new data
hardly changes the choice.
"""

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from trimtab_api.v1alpha1.data import DataDescription, PreparedRecords
from trimtab_pipelines.preparation.alike import NONE, Alike, text_of
from trimtab_pipelines.preparation.languages import language_of
from trimtab_pipelines.preparation.spool import Group, Spool
from trimtab_pipelines.preparation.tally import Tally
from trimtab_pipelines.preparation.words import token_count
from trimtab_pipelines.prepared import LABEL, SPLITS, SYNTHETIC, Record
from trimtab_pipelines.report.topics import topics_of

SAMPLE = 5000
_KEPT_CHARACTERS = 4000
_OUTLIERS = 5
_CLUSTERS = 10
_LABELS = 50
_COUNTED_LABELS = 1000
_SURE = 0.5
_CLUSTER_SIZES = ((2, 2), (3, 5), (6, 10), (11, 100), (101, None))
# A text that packs to less repeats itself; one with more marks than this is hardly one.
_REPETITIVE = 0.2
_REPETITIVE_FROM = 300
_MARKS = 0.35


class Figures:
    """Looks at what is kept, record by record, and tells of it at the end."""

    def __init__(self, spool: Spool, alike: Alike, tally: Tally) -> None:
        self._spool = spool
        self._alike = alike
        self._tally = tally
        self._digests = spool.digests()[:, 0] if len(spool) else np.zeros(0, np.uint64)
        self._limit = self._sample_limit()
        self._sampled: list[tuple[str, str, int]] = []  # split, beginning, tokens
        self._characters = 0
        self._longest: list[tuple[int, int]] = []
        self._shortest: list[tuple[int, int]] = []
        self.labels: dict[str, Counter[str]] = {}
        self.synthetic = 0

    def observe(self, number: int, split: str, record: Record) -> None:
        text = text_of(record)
        self._characters += len(text)
        _keep(self._longest, (len(text), -number))
        _keep(self._shortest, (-len(text), -number))
        self.synthetic += SYNTHETIC in record
        if LABEL in record:
            counts = self.labels.setdefault(split, Counter())
            label = record[LABEL]
            counts[label if label in counts or len(counts) < _COUNTED_LABELS else "…"] += 1
        if self._digests[number] <= self._limit:
            self._sampled.append((split, text[:_KEPT_CHARACTERS], token_count(text)))

    def document(
        self, dataset: DataDescription, records: PreparedRecords, warnings: Sequence[str]
    ) -> dict[str, Any]:
        """All of it, as it stands in report.json."""
        texts = [self._tally.redact(text) for _, text, _ in self._sampled]
        return {
            "task": dataset.task.value,
            "records": records.to_wire(),
            "splitBy": dataset.split.by.value,
            "meanCharacters": round(self._characters / records.kept, 1) if records.kept else 0,
            "warnings": list(warnings),
            "steps": [
                {"step": name, **_step(asdict(step))} for name, step in self._tally.steps.items()
            ],
            "sample": len(texts),
            "lengths": _lengths([(split, tokens) for split, _, tokens in self._sampled]),
            "languages": _languages(texts),
            "duplicates": self._duplicates(),
            "outliers": self._outliers(texts),
            "topics": _topics(texts),
            "labels": _labels(self.labels),
        }

    def _sample_limit(self) -> int:
        """The digest up to which records are looked at closely."""
        alike = self._alike
        candidates = self._digests[
            (alike.exact == NONE)
            & (alike.near == NONE)
            & (alike.held_out == NONE)
            & (alike.other == NONE)
            & (self._spool.groups != Group.OTHER)
        ]
        if len(candidates) <= SAMPLE:
            return 2**64 - 1
        return int(np.partition(candidates, SAMPLE - 1)[SAMPLE - 1])

    def _duplicates(self) -> dict[str, Any]:
        """Groups of records that are equal or alike; their first records are what was kept of them."""
        numbers = np.arange(len(self._spool))
        first = np.where(self._alike.exact == NONE, numbers, self._alike.exact)
        near = self._alike.near[first] if len(first) else first
        first = np.where(near == NONE, first, near)
        roots, sizes = np.unique(first[self._spool.groups != Group.OTHER], return_counts=True)
        roots, sizes = roots[sizes > 1], sizes[sizes > 1]
        largest = sorted(range(len(roots)), key=lambda n: (-int(sizes[n]), int(roots[n])))
        return {
            "clusters": len(roots),
            "records": int(sizes.sum()),
            "sizes": [
                {
                    "from": least,
                    "to": most,
                    "clusters": int(((sizes >= least) & (sizes <= (most or 2**62))).sum()),
                }
                for least, most in _CLUSTER_SIZES
            ],
            "largest": [
                {"size": int(sizes[n]), "text": self._shown(int(roots[n]))}
                for n in largest[:_CLUSTERS]
            ],
        }

    def _outliers(self, texts: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        return {
            "longest": [
                {"value": length, "text": self._shown(-number)}
                for length, number in sorted(self._longest, reverse=True)
            ],
            "shortest": [
                {"value": -length, "text": self._shown(-number)}
                for length, number in sorted(self._shortest, reverse=True)
            ],
            "repetitive": _extreme(texts, _packed, _REPETITIVE),
            "unusual": _extreme(texts, lambda text: -_marks(text), -_MARKS),
        }

    def _shown(self, number: int) -> str:
        return self._tally.shown(self._spool.record(number))


def _keep(heap: list[tuple[int, int]], entry: tuple[int, int]) -> None:
    if len(heap) < _OUTLIERS:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _step(wire: dict[str, Any]) -> dict[str, Any]:
    most = sorted(wire["found"].items(), key=lambda item: (-item[1], item[0]))[:_LABELS]
    return {**wire, "found": dict(most)}


def _lengths(counted: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Tokens per record; a token is a word or a mark."""
    tokens = sorted(count for _, count in counted)
    if not tokens:
        return {"edges": [], "counts": {}, "median": 0, "p95": 0, "longest": 0}
    edges = [1]
    while edges[-1] <= tokens[-1]:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.2)))
    first = max(0, int(np.searchsorted(edges, tokens[0], "right")) - 1)
    edges = edges[first:]
    counts = {}
    for name in SPLITS:
        values = [count for split, count in counted if split == name]
        if values:
            counts[name] = np.histogram(values, [*edges[:-1], np.inf])[0].tolist()
    return {
        "edges": edges,
        "counts": counts,
        "median": tokens[len(tokens) // 2],
        "p95": tokens[min(len(tokens) - 1, len(tokens) * 95 // 100)],
        "longest": tokens[-1],
    }


def _languages(texts: Sequence[str]) -> list[dict[str, Any]]:
    found: Counter[str] = Counter()
    for text in texts:
        language, probability = language_of(text)
        found[language if probability >= _SURE else "unsure"] += 1
    return _shares(found, "language")


def _topics(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "words": list(topic.words),
            "count": len(topic.members),
            "share": round(len(topic.members) / len(texts), 4),
            "text": texts[topic.members[0]][:200],
        }
        for topic in topics_of(texts)
    ]


def _labels(labels: Mapping[str, Counter[str]]) -> dict[str, list[dict[str, Any]]]:
    return {name: _shares(labels[name], "label") for name in SPLITS if name in labels}


def _shares(counts: Counter[str], name: str) -> list[dict[str, Any]]:
    total = counts.total()
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_LABELS]
    return [{name: key, "count": n, "share": round(n / total, 4)} for key, n in most]


def _extreme(texts: Iterable[str], measure: Any, limit: float) -> list[dict[str, Any]]:
    """The texts whose measure is smallest, and below the limit."""
    measured = ((measure(text), text) for text in texts)
    found = heapq.nsmallest(_OUTLIERS, (entry for entry in measured if entry[0] < limit))
    return [{"value": round(abs(value), 3), "text": text[:400]} for value, text in found]


def _packed(text: str) -> float:
    if len(text) < _REPETITIVE_FROM:
        return 1.0
    data = text.encode()
    return len(zlib.compress(data)) / len(data)


def _marks(text: str) -> float:
    if not text:
        return 0.0
    return sum(1 for c in text if not c.isalnum() and not c.isspace()) / len(text)
