"""The reference profile of a version, from its held-out prompts and what it answered.

Clusters come from spherical k-means on the features of the prompts; sums are exact enough, and
ties go to the lower number, so that the same prompts give the same profile.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab_api import features
from trimtab_api.documents.profile import ReferenceProfile, Topics
from trimtab_pipelines.evaluation.said import Answer
from trimtab_pipelines.prompts import Record

PROMPTS = 2000
TOPICS = 32
_ROUNDS = 25
_SEED = 20_261_101
# So many of the reference's own prompts are near no centroid: what "near" means follows from it.
_OTHER_SHARE = 0.02
_MOST_LANGUAGES = 16

Matrix = NDArray[np.float64]


def prompt_of(record: Record) -> str:
    """The part of a record that people would send."""
    if "messages" in record:
        return features.user_text(record["messages"])
    return str(record["text"] if "text" in record else record["prompt"])


def profile_of(
    prompts: Sequence[str], prompt_tokens: Sequence[int], answers: Sequence[Answer]
) -> ReferenceProfile:
    """The profile of these prompts and answers; there may be fewer answers, or none."""
    return ReferenceProfile(
        features=features.FEATURES_VERSION,
        prompts=len(prompts),
        answers=len(answers),
        prompt_characters=_histogram(map(len, prompts)),
        prompt_tokens=_histogram(prompt_tokens),
        answer_characters=_histogram(len(answer.text) for answer in answers),
        answer_tokens=_histogram(answer.tokens for answer in answers),
        finish_reasons=dict(
            sorted(Counter("stop" if a.is_finished else "length" for a in answers).items())
        ),
        refusals=sum(features.is_refusal(answer.text) for answer in answers),
        languages=_languages(prompts),
        topics=topics_of(prompts),
    )


def topics_of(prompts: Sequence[str]) -> Topics | None:
    """Up to 32 centroids; none where no prompt has a word."""
    counts = [features.counted(prompt) for prompt in prompts]
    weights = _weights(counts)
    rows = [features.weighted(each, weights) for each in counts]
    matrix = np.zeros((len(rows), features.DIMENSIONS))
    for number, row in enumerate(rows):
        matrix[number, list(row)] = list(row.values())
    matrix = matrix[matrix.any(axis=1)]
    if not len(matrix):
        return None
    centroids = [features.encoded_centroid(row) for row in _clusters(matrix)]
    coded = features.encoded_weights(weights)
    model = features.TopicModel.decoded(coded, centroids, -1.0)
    similarities = [model.nearest(prompt)[1] for prompt in prompts]
    least = round(float(np.quantile(similarities, _OTHER_SHARE)), 4)
    topics = Topics(weights=coded, centroids=centroids, least_similarity=least, counts=[])
    model = topics.model()
    found = Counter(model.topic_of(prompt) for prompt in prompts)
    return topics.model_copy(update={"counts": [found[n] for n in range(len(centroids) + 1)]})


def _weights(counts: Sequence[features.Vector]) -> list[float]:
    """Rare pieces tell more than those that every prompt has; a byte each, as they are stored."""
    seen = np.zeros(features.DIMENSIONS)
    for each in counts:
        seen[list(each)] += 1
    rarity = np.log((1 + len(counts)) / (1 + seen))
    highest = float(rarity.max()) or 1.0
    return [round(255 * float(value) / highest) / 255 for value in rarity]


def _clusters(matrix: Matrix) -> Matrix:
    """Spherical k-means from centres that are far apart (k-means++)."""
    centres = _starts(matrix)
    nearest = np.full(len(matrix), -1)
    for _ in range(_ROUNDS):
        moved = np.argmax(np.round(matrix @ centres.T, 9), axis=1)
        if np.array_equal(moved, nearest):
            break
        nearest = moved
        for number in range(len(centres)):
            members = matrix[nearest == number]
            if len(members):
                total = members.sum(axis=0)
                centres[number] = total / (np.linalg.norm(total) or 1.0)
    return centres


def _starts(matrix: Matrix) -> Matrix:
    source = np.random.default_rng(_SEED)
    chosen = [int(source.integers(len(matrix)))]
    distance = np.full(len(matrix), np.inf)
    while len(chosen) < min(TOPICS, len(matrix)):
        distance = np.minimum(distance, np.round(1 - matrix @ matrix[chosen[-1]], 9))
        shares = np.maximum(distance, 0)
        if shares.sum() <= 0:
            break  # fewer different prompts than centroids
        chosen.append(int(source.choice(len(matrix), p=shares / shares.sum())))
    return matrix[chosen].copy()


def _histogram(lengths: Iterable[int]) -> list[int]:
    found = Counter(map(features.length_bucket, lengths))
    return [found[place] for place in range(len(features.LENGTH_BOUNDS) + 1)]


def _languages(prompts: Sequence[str]) -> dict[str, int]:
    """The commonest ones, by count and then by name."""
    found = Counter(map(features.language_of, prompts))
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return dict(ranked[:_MOST_LANGUAGES])
