"""The steps that look at one record at a time, in their fixed order.

Each either hands the record on, changed or not, or drops it and tells the tally why.
"""

from collections.abc import Callable
from typing import Protocol

from trimtab_api import secretforms
from trimtab_api.secretforms import Span
from trimtab_api.v1alpha1.cleaning import (
    CharacterLimits,
    Cleaning,
    FindingAction,
    LanguageFilter,
    WordList,
    WordListAction,
)
from trimtab_pipelines.preparation import wordlists
from trimtab_pipelines.preparation.personal import PersonalData, is_only_personal
from trimtab_pipelines.preparation.records import texts_of, with_texts
from trimtab_pipelines.preparation.tally import Tally
from trimtab_pipelines.prepared import Record

Finder = Callable[[str], list[Span]]


class CleaningStep(Protocol):
    """A record in; the record, perhaps changed, or nothing out."""

    def __call__(self, record: Record, tally: Tally) -> Record | None:
        """Judge one record."""
        ...


class Characters:
    """Drops what is too short or too long."""

    def __init__(self, limits: CharacterLimits) -> None:
        self._limits = limits

    def __call__(self, record: Record, tally: Tally) -> Record | None:
        length = sum(map(len, texts_of(record)))
        most = self._limits.max
        if length < self._limits.min or (most is not None and length > most):
            tally.dropped("Characters", record, f"{length} characters")
            return None
        return record


class Languages:
    """Drops what is in another language."""

    def __init__(self, wanted: LanguageFilter) -> None:
        from trimtab_pipelines.preparation.languages import LanguageJudge  # noqa: PLC0415 - a model

        self._judge = LanguageJudge(wanted.allow, wanted.at_least)

    def __call__(self, record: Record, tally: Tally) -> Record | None:
        refusal = self._judge.refusal("\n".join(texts_of(record)))
        if refusal is None:
            return record
        tally.dropped("Languages", record, refusal)
        return None


class WordLists:
    """Drops or counts what holds words of a list."""

    def __init__(self, lists: list[WordList]) -> None:
        self._lists = wordlists.load(lists)

    def __call__(self, record: Record, tally: Tally) -> Record | None:
        for phrases, action in self._lists:
            for text in texts_of(record):
                phrase = phrases.found_in(text)
                if phrase is None:
                    continue
                tally.found("WordLists", phrase)
                if action is WordListAction.DROP:
                    tally.dropped("WordLists", record, f'holds "{phrase}"')
                    return None
                tally.reported("WordLists", record, f'holds "{phrase}"')
                break
        return record


class Findings:
    """Masks, drops or counts what a finder finds."""

    def __init__(self, step: str, finder: Finder, action: FindingAction, mask: str | None) -> None:
        self._step = step
        self._finder = finder
        self._action = action
        self._mask = mask

    def __call__(self, record: Record, tally: Tally) -> Record | None:
        spans = [span for text in texts_of(record) for span in self._finder(text)]
        if not spans:
            return record
        for span in spans:
            tally.found(self._step, span.kind)
        why = "holds " + ", ".join(sorted({span.kind for span in spans}))
        if self._action is FindingAction.DROP:
            tally.dropped(self._step, record, why)
            return None
        if self._action is FindingAction.REPORT:
            tally.reported(self._step, record, why)
            return record
        changed = with_texts(record, self.masked)
        if any(map(is_only_personal, texts_of(changed))):
            tally.dropped(self._step, changed, f"{why} and nothing else")
            return None
        tally.changed(self._step, changed, why)
        return changed

    def masked(self, text: str) -> str:
        return secretforms.masked(text, self._finder(text), self._mask)


def steps_of(cleaning: Cleaning) -> list[CleaningStep]:
    """The steps that a specification asks for."""
    steps: list[CleaningStep] = []
    if cleaning.characters is not None:
        steps.append(Characters(cleaning.characters))
    if cleaning.languages is not None:
        steps.append(Languages(cleaning.languages))
    if cleaning.word_lists:
        steps.append(WordLists(cleaning.word_lists))
    if cleaning.secrets is not None:
        steps.append(
            Findings("Secrets", secretforms.found_in, cleaning.secrets.action, secretforms.MASK)
        )
    if cleaning.pii is not None:
        finder = PersonalData(cleaning.pii.entities, cleaning.pii.names).found_in
        steps.append(Findings("Pii", finder, cleaning.pii.action, None))
    return steps


def through(steps: list[CleaningStep], record: Record | None, tally: Tally) -> Record | None:
    """The record after all steps; nothing once one of them has dropped it."""
    for step in steps:
        if record is None:
            return None
        record = step(record, tally)
    return record


def redactor_of(steps: list[CleaningStep]) -> Callable[[str], str]:
    """What makes examples fit to be shown: all that is looked for is masked, whatever becomes of it."""
    findings = [step for step in steps if isinstance(step, Findings)]

    def redact(text: str) -> str:
        for step in findings:
            text = step.masked(text)
        return text

    return redact
