"""Cheap features of texts: what a reference profile is made of, and what traffic is held against.

The evaluation describes a version's held-out prompts and its answers with these functions; whoever
watches the version later describes live requests with the very same ones. So they are pure, need
nothing but the standard library, look at a bounded part of a text, and have a version: figures of
different versions cannot be compared.
"""

import base64
import math
import re
import unicodedata
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any, Final

FEATURES_VERSION: Final = 1
DIMENSIONS: Final = 256
# Upper ends of the buckets of lengths, in characters or tokens; a last bucket has the rest.
LENGTH_BOUNDS: Final = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_LOOKED_AT: Final = 2048
_STEM: Final = 6
_LONG_RUN: Final = 24
_WORD: Final = re.compile(r"[^\W\d_]+")
_SCALE: Final = 127

Vector = Mapping[int, float]


def length_bucket(length: int) -> int:
    """The place of a length among `LENGTH_BOUNDS`; a bound belongs to the bucket below it."""
    return bisect_right(LENGTH_BOUNDS, length - 1)


def user_text(messages: Iterable[Mapping[str, Any]]) -> str:
    """What people said in a conversation; the system's part is the same in every request."""
    return "\n".join(str(m.get("content") or "") for m in messages if m.get("role") == "user")


def counted(text: str) -> dict[int, float]:
    """How often pieces of words fall into each dimension, damped.

    A word counts by its first letters, which makes its forms one; a script without blanks counts by
    pairs of characters.
    """
    counts = Counter(zlib.crc32(piece.encode()) % DIMENSIONS for piece in _pieces(text))
    return {place: 1.0 + math.log(count) for place, count in counts.items()}


def weighted(counts: Vector, weights: Sequence[float]) -> dict[int, float]:
    """The counts with a weight per dimension, scaled to length one; empty where nothing is left."""
    values = {place: count * weights[place] for place, count in counts.items() if weights[place]}
    length = math.sqrt(sum(value * value for value in values.values()))
    return {place: value / length for place, value in values.items()} if length else {}


@dataclass(frozen=True)
class TopicModel:
    """Centroids that a text is nearest to one of; `least` is how near it has to be."""

    weights: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]
    least: float

    @classmethod
    def decoded(cls, weights: str, centroids: Sequence[str], least: float) -> "TopicModel":
        """From the form of a report: bytes in base64."""
        return cls(
            tuple(value / 255 for value in base64.b64decode(weights)),
            tuple(
                tuple((value - 256 if value > 127 else value) / _SCALE for value in row)
                for row in map(base64.b64decode, centroids)
            ),
            least,
        )

    def topic_of(self, text: str) -> int:
        """The number of the nearest centroid; one more than the last where none is near."""
        nearest, similarity = self.nearest(text)
        return nearest if similarity >= self.least else len(self.centroids)

    def nearest(self, text: str) -> tuple[int, float]:
        """The nearest centroid and its similarity (cosine, nearly)."""
        vector = weighted(counted(text), self.weights)
        best, similarity = len(self.centroids), -1.0
        if not vector:
            return best, similarity
        places, values = list(vector), list(vector.values())
        for number, centroid in enumerate(self.centroids):
            found = sum(map(mul, values, [centroid[place] for place in places]))
            if found > similarity:
                best, similarity = number, found
        return best, similarity


def encoded_weights(weights: Sequence[float]) -> str:
    """Weights in 0..1, a byte each."""
    return base64.b64encode(bytes(round(255 * weight) for weight in weights)).decode()


def encoded_centroid(centroid: Sequence[float]) -> str:
    """A vector of values in -1..1, a byte each."""
    return base64.b64encode(bytes(round(_SCALE * value) % 256 for value in centroid)).decode()


def is_refusal(answer: str) -> bool:
    """Whether an answer begins by declining; by common phrases of a few languages."""
    start = " ".join(answer[:300].casefold().replace("\u2019", "'").split())
    return any(phrase in start for phrase in _REFUSALS)


def language_of(text: str) -> str:
    """The language by its script and commonest words; `und` with the script where they do not tell."""
    part = text[:_LOOKED_AT]
    scripts: Counter[str] = Counter()
    for letter, count in Counter(part).items():
        if letter.isalpha():
            scripts[_script(letter)] += count
    if not scripts:
        return "und"
    script = max(scripts, key=lambda name: (scripts[name], name))
    if "Jpan" in scripts and script in {"Jpan", "Hani"}:
        return "ja"
    if script != "Latn":
        return _ONE_LANGUAGE.get(script, f"und-{script}")
    words = Counter(_WORD.findall(part.casefold()))
    scores = {name: sum(words[word] for word in common) for name, common in _COMMON.items()}
    best = max(scores, key=lambda name: (scores[name], name))
    is_tied = list(scores.values()).count(scores[best]) > 1
    return "und-Latn" if not scores[best] or is_tied else best


def _pieces(text: str) -> Iterable[str]:
    for word in _WORD.findall(unicodedata.normalize("NFKC", text[:_LOOKED_AT]).casefold()):
        if len(word) > _LONG_RUN or (not word.isascii() and _script(word[0]) in _UNSPACED):
            yield from (word[place : place + 2] for place in range(max(1, len(word) - 1)))
        elif len(word) > 2:
            yield word[:_STEM]


def _script(letter: str) -> str:
    code = ord(letter)
    for first, last, name in _SCRIPTS:
        if first <= code <= last:
            return name
    return "Zyyy"


_SCRIPTS: Final = (
    (0x0041, 0x024F, "Latn"),
    (0x1E00, 0x1EFF, "Latn"),
    (0x0370, 0x03FF, "Grek"),
    (0x0400, 0x052F, "Cyrl"),
    (0x0590, 0x05FF, "Hebr"),
    (0x0600, 0x077F, "Arab"),
    (0x0900, 0x097F, "Deva"),
    (0x0980, 0x09FF, "Beng"),
    (0x0B80, 0x0BFF, "Taml"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x10A0, 0x10FF, "Geor"),
    (0x0530, 0x058F, "Armn"),
    (0x3040, 0x30FF, "Jpan"),
    (0x3400, 0x9FFF, "Hani"),
    (0x1100, 0x11FF, "Hang"),
    (0xAC00, 0xD7AF, "Hang"),
)
_UNSPACED: Final = frozenset({"Jpan", "Hani", "Thai"})
_ONE_LANGUAGE: Final = {
    "Grek": "el",
    "Hebr": "he",
    "Thai": "th",
    "Hani": "zh",
    "Hang": "ko",
    "Geor": "ka",
    "Armn": "hy",
    "Beng": "bn",
    "Taml": "ta",
}
_COMMON: Final[Mapping[str, frozenset[str]]] = {
    "en": frozenset(["the", "of", "and", "to", "is", "in", "that", "it", "for", "was", "with", "you", "are", "this", "have", "not", "be", "what", "how"]),
    "de": frozenset(["der", "die", "das", "und", "ist", "nicht", "ein", "eine", "zu", "den", "mit", "von", "ich", "es", "auf", "für", "sich", "dem", "wie"]),
    "fr": frozenset(["le", "la", "les", "des", "et", "est", "un", "une", "dans", "que", "pour", "pas", "qui", "du", "ce", "il", "sur", "avec", "vous", "je"]),
    "es": frozenset(["el", "la", "los", "las", "de", "y", "es", "un", "una", "en", "que", "por", "no", "con", "para", "se", "su", "lo", "como", "del"]),
    "it": frozenset(["il", "la", "di", "e", "che", "è", "un", "una", "per", "non", "con", "del", "della", "sono", "gli", "le", "si", "come", "mi"]),
    "pt": frozenset(["o", "a", "os", "as", "de", "e", "é", "um", "uma", "em", "que", "por", "não", "com", "para", "se", "do", "da", "como", "você"]),
    "nl": frozenset(["de", "het", "een", "en", "is", "niet", "van", "dat", "ik", "te", "op", "met", "voor", "zijn", "die", "er", "aan", "hoe", "je"]),
}  # fmt: skip
_REFUSALS: Final = (
    "i can't help",
    "i cannot help",
    "i can't assist",
    "i cannot assist",
    "i can't provide",
    "i cannot provide",
    "i can't answer that",
    "i cannot answer that",
    "i can't comply",
    "i cannot comply",
    "i won't help",
    "i will not help",
    "i won't provide",
    "i'm not able to help",
    "i am not able to help",
    "i'm unable to",
    "i am unable to",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i must decline",
    "i have to decline",
    "i refuse to",
    "i'm not allowed to",
    "i am not allowed to",
    "dabei kann ich nicht helfen",
    "das kann ich nicht",
    "ich kann ihnen dabei nicht",
    "ich kann dir dabei nicht",
    "je ne peux pas vous aider",
    "je ne peux pas t'aider",
    "je ne peux pas répondre",
    "no puedo ayudar",
    "no puedo ayudarte",
    "lo siento, pero no puedo",
    "non posso aiutar",
    "não posso ajudar",
    "daar kan ik niet bij helpen",
)
# What `language_of` can name; beside these there is `und`, with a script where that is all it knows.
LANGUAGES: Final = (*_COMMON, *dict.fromkeys(_ONE_LANGUAGE.values()), "ja")
