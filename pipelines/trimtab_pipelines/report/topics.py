"""What texts are about: groups of texts that share telling words. Pure, and the same every time.

Texts become rows of word weights (tf-idf) over a vocabulary of their own, and are grouped by spherical
k-means.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab_pipelines.preparation.words import words

_VOCABULARY = 1500
_LARGEST_SHARE = 0.3
_TEXTS_PER_TOPIC = 25
_MOST_TOPICS = 12
_ROUNDS = 20
_NAMING_WORDS = 5
_SHORTEST_WORD = 3

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Topic:
    """One group: the words that tell it from the others, and the texts in it."""

    words: tuple[str, ...]
    members: tuple[int, ...]


def topics_of(texts: Sequence[str]) -> list[Topic]:
    """The groups, largest first; none where there is too little to group."""
    counted = [Counter(w for w in words(text) if not w.isdecimal()) for text in texts]
    vocabulary = _vocabulary(counted)
    wanted = min(_MOST_TOPICS, len(texts) // _TEXTS_PER_TOPIC)
    if wanted < 2 or len(vocabulary) < wanted:
        return []
    weights = _weights(counted, vocabulary)
    kept = np.flatnonzero(weights.any(axis=1))
    if len(kept) < wanted:
        return []
    nearest, centres = _grouped(weights[kept], wanted)
    found = []
    for group in range(len(centres)):
        members = tuple(int(n) for n in kept[nearest == group])
        if members:
            best = np.argsort(-centres[group], kind="stable")[:_NAMING_WORDS]
            named = tuple(vocabulary[n] for n in best if centres[group][n] > 0)
            found.append(Topic(named, members))
    return sorted(found, key=lambda topic: (-len(topic.members), topic.words))


def _vocabulary(counted: Sequence[Counter[str]]) -> list[str]:
    """Words of several texts, but not of most; the most frequent ones."""
    frequency = Counter(word for counts in counted for word in counts)
    most = max(2, int(len(counted) * _LARGEST_SHARE))
    fitting = [
        (-times, word)
        for word, times in frequency.items()
        if 2 <= times <= most and (len(word) >= _SHORTEST_WORD or not word.isascii())
    ]
    return [word for _, word in sorted(fitting)[:_VOCABULARY]]


def _weights(counted: Sequence[Counter[str]], vocabulary: Sequence[str]) -> Weights:
    places = {word: place for place, word in enumerate(vocabulary)}
    table = np.zeros((len(counted), len(vocabulary)), dtype=np.float32)
    for row, counts in enumerate(counted):
        for word, times in counts.items():
            if word in places:
                table[row, places[word]] = 1 + np.log(times)
    table *= np.log(len(counted) / np.count_nonzero(table, axis=0)).astype(np.float32)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    np.divide(table, norms, out=table, where=norms > 0)
    return table


def _grouped(weights: Weights, wanted: int) -> tuple[NDArray[np.int64], Weights]:
    centres = _first_centres(weights, wanted)
    nearest = np.zeros(len(weights), dtype=np.int64)
    for _ in range(_ROUNDS):
        before = nearest
        nearest = np.argmax(weights @ centres.T, axis=1)
        for group in range(len(centres)):
            members = weights[nearest == group]
            if len(members):
                mean = members.mean(axis=0)
                centres[group] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        if np.array_equal(before, nearest):
            break
    return nearest, centres


def _first_centres(weights: Weights, wanted: int) -> Weights:
    """Texts far from one another (k-means++), by a generator with a fixed seed."""
    generator = np.random.default_rng(7)
    chosen = [int(generator.integers(len(weights)))]
    distance = np.full(len(weights), np.inf)
    while len(chosen) < wanted:
        distance = np.minimum(distance, np.maximum(1 - weights @ weights[chosen[-1]], 0))
        total = float(distance.sum())
        if total <= 0:
            break
        chosen.append(int(generator.choice(len(weights), p=distance / total)))
    return weights[chosen].copy()
