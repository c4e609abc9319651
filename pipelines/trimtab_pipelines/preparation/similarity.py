"""How alike texts are: the Jaccard similarity of their runs of three words.

MinHash (Broder, 1997) makes a short signature of each text; texts that are alike agree in about that
share of it. Cut into bands, signatures tell which pairs are worth comparing word by word.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from trimtab_pipelines.preparation.words import words

Hashes = NDArray[np.uint64]
Signatures = NDArray[np.uint32]

PERMUTATIONS = 128
_RUN = 3  # words in a row
_SEED = 42
# How surely a pair that is just alike enough shares a band.
_RECALL = 0.99
# Odd constants of splitmix64's finaliser, and one for each place in a run.
_PLACES = tuple(
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def runs(text: str) -> Hashes:
    """The different runs of words in a text, as sorted hashes; never none."""
    flat, _ = _flat_runs([text])
    return np.unique(flat)


def jaccard(one: Hashes, other: Hashes) -> float:
    """The share of all runs that both have."""
    common = np.intersect1d(one, other, assume_unique=True).size
    return float(common / (one.size + other.size - common))


def signatures(texts: Sequence[str]) -> Signatures:
    """One row of PERMUTATIONS numbers per text."""
    flat, offsets = _flat_runs(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def rows_per_band(threshold: float) -> int:
    """The longest bands in which pairs at the threshold still meet: fewer pairs to compare in vain."""
    fitting = [
        rows
        for rows in range(1, 33)
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= _RECALL
    ]
    return max(fitting)


def band_hashes(signature_rows: Signatures, rows: int) -> Hashes:
    """One number per band and text; equal where the texts agree in all of the band."""
    bands = PERMUTATIONS // rows
    parts = signature_rows[:, : bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    value = np.zeros(parts.shape[:2], dtype=np.uint64)
    for row in range(rows):
        value = _mixed(value * _PLACES[0] + parts[:, :, row] + _PLACES[1])
    return value


def short_signatures(signature_rows: Signatures) -> NDArray[np.uint8]:
    """A byte per permutation: enough to tell pairs that are far from alike."""
    return signature_rows.astype(np.uint8)


def estimate(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The similarity as short signatures see it; 1 byte in 256 agrees by chance."""
    agreeing = float(np.count_nonzero(one == other)) / PERMUTATIONS
    return (agreeing - 1 / 256) / (1 - 1 / 256)


def _flat_runs(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.uint64]]:
    """The runs of all texts behind one another, and where each text begins and ends."""
    found = [words(text) or [text] for text in texts]
    padded = [word for part in found for word in _padded(part)]
    hashes = np.array(RMinHash.hash_token_sets([padded])[0], dtype=np.uint64)
    value = sum(
        (
            hashes[place : len(hashes) - _RUN + 1 + place] * factor
            for place, factor in enumerate(_PLACES)
        ),
        start=np.zeros(len(hashes) - _RUN + 1, dtype=np.uint64),
    )
    counts = np.array([max(len(part), _RUN) - _RUN + 1 for part in found])
    ends = np.cumsum(counts)
    # Runs that reach from one text into the next are left out: two after each text but the last.
    taken = np.repeat(np.arange(len(found)) * (_RUN - 1), counts) + np.arange(ends[-1])
    return _mixed(value[taken]), np.concatenate(([0], ends)).astype(np.uint64)


def _padded(part: list[str]) -> list[str]:
    return part if len(part) >= _RUN else [*part, *[""] * (_RUN - len(part))]


def _mixed(value: Hashes) -> Hashes:
    value = (value ^ (value >> np.uint64(30))) * _MIX[0]
    value = (value ^ (value >> np.uint64(27))) * _MIX[1]
    return value ^ (value >> np.uint64(31))
