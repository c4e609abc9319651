"""Lists of a user's own: words that are not wanted, in any case, and names, as they are written."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

from trimtab_api.reasons import FailureReason
from trimtab_api.secretforms import Span
from trimtab_api.v1alpha1.cleaning import ConfigMapKey, NameList, WordList, WordListAction
from trimtab_pipelines import paths
from trimtab_pipelines.preparation.words import word_spans, words
from trimtab_pipelines.runtime import RunError

# What may stand between two words of a name: J. R. Smith, Anne-Marie, O'Neill.
_BETWEEN = re.compile(r"[\s.'\u2019-]{0,3}")


class Phrases:
    """A list, ready to be looked for."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        self.size = 0
        for line in lines:
            phrase = tuple(words(line))
            if phrase and not line.lstrip().startswith("#"):
                self._by_first.setdefault(phrase[0], []).append(phrase)
                self.size += 1

    def found_in(self, text: str) -> str | None:
        """The first phrase of the list in the text."""
        found = words(text)
        for place, word in enumerate(found):
            for phrase in self._by_first.get(word, ()):
                if tuple(found[place : place + len(phrase)]) == phrase:
                    return " ".join(phrase)
        return None


class Names:
    """Names of one kind. Case counts, because many a name is a word as well: Will, Rose, Bill."""

    def __init__(self, lines: Iterable[str], entity: str) -> None:
        self._entity = entity
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        self.size = 0
        for line in lines:
            composed = unicodedata.normalize("NFC", line)
            name = tuple(composed[start:end] for start, end in word_spans(composed))
            if name and not line.lstrip().startswith("#"):
                self._by_first.setdefault(name[0], []).append(name)
                self.size += 1

    def found_in(self, text: str) -> list[Span]:
        """Where the names stand; of two that begin in one place the longer."""
        places = word_spans(text)
        found = []
        for number, (start, end) in enumerate(places):
            known = self._by_first.get(text[start:end], ())
            ends = [
                places[number + len(name) - 1][1]
                for name in known
                if _stands(name, text, places[number : number + len(name)])
            ]
            if ends:
                found.append(Span(start, max(ends), self._entity))
        return found


def _stands(name: tuple[str, ...], text: str, places: Sequence[tuple[int, int]]) -> bool:
    """Whether the words are those of the name, with no more between them than names have."""
    if tuple(text[start:end] for start, end in places) != name:
        return False
    return all(_BETWEEN.fullmatch(text, one[1], other[0]) for one, other in pairwise(places))


def load(lists: Sequence[WordList]) -> list[tuple[Phrases, WordListAction]]:
    """The lists of a specification, from where their ConfigMaps are mounted."""
    found = []
    for number, item in enumerate(lists):
        field = f"clean.wordLists[{number}]"
        phrases = Phrases(_lines(item.config_map, field))
        _check(phrases.size, item.config_map, field, "word")
        found.append((phrases, item.action))
    return found


def load_names(lists: Sequence[NameList]) -> list[Names]:
    """The same for names."""
    found = []
    for number, item in enumerate(lists):
        field = f"clean.pii.names[{number}]"
        names = Names(_lines(item.config_map, field), item.entity)
        _check(names.size, item.config_map, field, "name")
        found.append(names)
    return found


def _check(size: int, source: ConfigMapKey, field: str, what: str) -> None:
    if not size:
        raise RunError(
            FailureReason.DATA_EMPTY,
            f"{field}: {_called(source)} has no {what}; put one on each line or remove the list",
        )


def _called(source: ConfigMapKey) -> str:
    return f'key "{source.key}" of the ConfigMap "{source.name}"'


def _lines(source: ConfigMapKey, field: str) -> list[str]:
    path, what = paths.inside("/configmaps") / source.name / source.key, _called(source)
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RunError(
            FailureReason.DATA_ENCODING, f"{field}: {what} is not UTF-8; save it as UTF-8"
        ) from error
    except OSError as error:
        raise RunError(
            FailureReason.SOURCE_NOT_FOUND,
            f"{field}: there is no {what}; create it in this namespace",
        ) from error
