"""Texts in, question-answer pairs of a teacher out, filtered and counted."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import NoReturn

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.synthetic import Synthetic
from trimtab_pipelines.chat import ChatModel, Question
from trimtab_pipelines.preparation.tally import Tally
from trimtab_pipelines.preparation.words import words
from trimtab_pipelines.prepared import SYNTHETIC, Record
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.synthesis.grounding import ungrounded
from trimtab_pipelines.synthesis.recording import Recording, key_of
from trimtab_pipelines.synthesis.teaching import Pair, pairs_in, question_about

log = logging.getLogger(__name__)

# A teacher of whose first answers none can be read is not asked on.
_FIRST = 20
_LEAST_READABLE = 0.5
# Windows of so many times the concurrency: the slowest answer of each is waited for.
_AHEAD = 16
_QUOTED_CHARACTERS = 120


@dataclass(frozen=True)
class _Answered:
    """A text with the teacher's answer; without one it was there before."""

    text: str
    answer: str | None


@dataclass
class Writer:
    """Has pairs written from texts; counts what is left out and why.

    `clean` is what pairs go through besides, like records that people have written.
    """

    synthetic: Synthetic
    teacher: ChatModel
    recording: Recording
    tally: Tally
    clean: Callable[[Record], Record | None]
    texts: int = 0
    asked: int = 0
    _unreadable: int = 0
    _example: str = ""
    _seen_texts: set[bytes] = field(default_factory=set)
    _seen_questions: set[int] = field(default_factory=set)

    def pairs(self, texts: Iterable[str | None]) -> Iterator[Record | None]:
        """The records, and None for each that was left out, among them texts that were left out before."""
        with asyncio.Runner() as runner:
            runner.run(self.teacher.__aenter__())
            try:
                source = iter(texts)
                while window := list(islice(source, _AHEAD * self.teacher.endpoint.concurrency)):
                    for found in runner.run(self._answered(window)):
                        yield from self._records(found) if found else (None,)
                    log.info("%d texts read, the teacher was asked %d", self.texts, self.asked)
                    self._check_first()
            finally:
                runner.run(self.teacher.__aexit__(None, None, None))
        self._check_all()

    async def _answered(self, window: list[str | None]) -> list[_Answered | None]:
        """Texts with their answers, in order; what is known is not asked."""
        model = self.teacher.endpoint.model
        questions = [
            None if text is None else question_about(text, self.synthetic) for text in window
        ]
        keys = [b"" if question is None else key_of(question, model) for question in questions]
        fresh: dict[bytes, Question] = {}
        for key, question in zip(keys, questions, strict=True):
            is_new = key not in self._seen_texts and self.recording.known(key) is None
            if question is not None and is_new:
                fresh[key] = question
        said = await self.teacher.answers(list(fresh.values()))
        self.asked += len(said)
        answers = dict(zip(fresh, map(_storable, said), strict=True))
        return [
            None if text is None else _Answered(text, self._first_answer(key, answers))
            for text, key in zip(window, keys, strict=True)
        ]

    def _first_answer(self, key: bytes, answers: Mapping[bytes, str]) -> str | None:
        """The answer, written down; none where the same text was there before."""
        if key in self._seen_texts:
            return None
        self._seen_texts.add(key)
        known = self.recording.known(key)
        answer = answers[key] if known is None else known
        self.recording.keep(key, answer)
        return answer

    def _records(self, found: _Answered) -> Iterator[Record | None]:
        if found.answer is None:
            self.tally.dropped("ExactDuplicates", {"text": found.text}, "equal to an earlier text")
            yield None
            return
        self.texts += 1
        pairs = pairs_in(found.answer, self.synthetic.pairs_per_text)
        if not pairs:
            self._unreadable += 1
            self._example = self._example or found.answer
            why = "the teacher says nothing" if not found.answer.strip() else "no pair can be read"
            self.tally.dropped("OffFormat", {"text": found.answer or found.text}, why)
            yield None
        for pair in pairs:
            yield self._kept(pair, found.text)

    def _kept(self, pair: Pair, text: str) -> Record | None:
        record: Record = {"prompt": pair.question, "completion": pair.answer, SYNTHETIC: True}
        why = ungrounded(pair.question, pair.answer, text, self.synthetic.grounded_at_least)
        if why is not None:
            self.tally.dropped("Ungrounded", record, why)
            return None
        # A number of 64 bits stands for the question: two that share one by chance are not to be had.
        number = int.from_bytes(sha256(" ".join(words(pair.question)).encode()).digest()[:8], "big")
        if number in self._seen_questions:
            self.tally.dropped("RepeatedQuestions", record, "the same question as an earlier one")
            return None
        self._seen_questions.add(number)
        return self.clean(record)

    def _check_first(self) -> None:
        if self.texts >= _FIRST and self._unreadable == self.texts:
            self._off_format()

    def _check_all(self) -> None:
        if self._unreadable > (1 - _LEAST_READABLE) * self.texts:
            self._off_format()

    def _off_format(self) -> NoReturn:
        said = " ".join(self.tally.redact(self._example).split())
        example = f'it said "{said[:_QUOTED_CHARACTERS]}"' if said else "it said nothing"
        raise RunError(
            FailureReason.ANSWERS_OFF_FORMAT,
            f"{self.teacher.who}: no question-answer pair can be read in {self._unreadable} of {self.texts} answers "
            f"({example}); use a model that follows instructions, raise maxTokens, or lower pairsPerText",
        )


def _storable(answer: str) -> str:
    """Half of a surrogate pair can come over JSON, and fits into no file."""
    return answer.encode(errors="replace").decode()
