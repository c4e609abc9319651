"""Words and phrases that are not wanted, looked for word by word and in any case."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.cleaning import WordList, WordListAction
from trimtab_pipelines import paths
from trimtab_pipelines.preparation.words import words
from trimtab_pipelines.runtime import RunError


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


def load(lists: Sequence[WordList]) -> list[tuple[Phrases, WordListAction]]:
    """The lists of a specification, from where their ConfigMaps are mounted."""
    return [(_loaded(item, number), item.action) for number, item in enumerate(lists)]


def _loaded(item: WordList, number: int) -> Phrases:
    field = f"clean.wordLists[{number}]"
    name, key = item.config_map.name, item.config_map.key
    path = paths.inside("/configmaps") / name / key
    phrases = Phrases(_lines(path, field, f'key "{key}" of the ConfigMap "{name}"'))
    if not phrases.size:
        raise RunError(
            FailureReason.DATA_EMPTY,
            f'{field}: key "{key}" of the ConfigMap "{name}" has no word; put one on each line or '
            "remove the list",
        )
    return phrases


def _lines(path: Path, field: str, what: str) -> list[str]:
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
