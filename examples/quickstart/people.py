"""People who ask a served model, rate what they are answered, and correct it.

They stand for the users that a demonstration has not: each conversation is one person's, and what
they are content with is told to them.
"""

import itertools
import json
import random
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
from examples.quickstart.kube import CommandFailed, Kube, Object, wait

T = TypeVar("T")

AT_ONCE = 6
ANSWER_SECONDS = 120
# What is asked and how it is rated matters here, not what is answered.
ANSWER_TOKENS = 2
CITIES = ("Bremen", "Erfurt", "Hagen", "Jena", "Kiel", "Mainz", "Trier", "Ulm", "Weimar", "Worms")


class Answer(NamedTuple):
    """One response: what it is called, and which version gave it."""

    id: str
    version: str


class People:
    """Many people, each of whom opens one conversation."""

    def __init__(self, url: str, key: str, model: str) -> None:
        """Whom they ask, and by whose key."""
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=ANSWER_SECONDS
        )
        self._model = model
        self._pool = ThreadPoolExecutor(AT_ONCE)
        # Of one and the same person only two openings a minute are counted.
        self._crowd, self._numbers = secrets.token_hex(4), itertools.count()

    def ask(self, questions: Sequence[str]) -> list[Answer]:
        """The answers; a request that fails is a CommandFailed."""
        return list(self._pool.map(self._asks, questions))

    def rate(self, questions: Sequence[str], liked: Collection[str]) -> list[Answer]:
        """Ask, and be content with what these versions answer and with nothing else."""
        answers = self.ask(questions)
        for answer in answers:
            self._tells(answer, rating="positive" if answer.version in liked else "negative")
        return answers

    def correct(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Ask, and say what the answer should have been."""
        for answer, (_, right) in zip(self.ask([q for q, _ in pairs]), pairs, strict=True):
            self._tells(answer, rating="negative", correction=right)

    def close(self) -> None:
        """Go away."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _asks(self, question: str) -> Answer:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
        }
        who = {"X-Session": f"{self._crowd}-{next(self._numbers)}"}
        answer = self._sent("/v1/chat/completions", body, who)
        return Answer(answer.json()["id"], answer.headers["x-trimtab-version"])

    def _tells(self, answer: Answer, **said: str) -> None:
        self._sent("/v1/feedback", {"id": answer.id, **said}, {})

    def _sent(self, path: str, body: Object, headers: dict[str, str]) -> httpx.Response:
        try:
            answer = self._client.post(path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise CommandFailed(f"{path} was not answered: {error!r}") from error
        if answer.is_error:
            raise CommandFailed(f"{path} answered {answer.status_code}: {answer.text[:500]}")
        return answer


@contextmanager
def people_of(kube: Kube, service: str, key: str, model: str) -> Iterator[People]:
    """People who reach the service from here, while the context lasts."""
    with kube.forwarded(service, 80) as url:
        people = People(url, key, model)
        try:
            yield people
        finally:
            people.close()


def meanwhile(
    turn: Callable[[], object], over: Callable[[], bool], seconds: float, what: str
) -> None:
    """Turn after turn until it holds; CommandFailed with `what` when time is up."""

    def looked() -> bool:
        turn()
        return over()

    wait(looked, seconds, what, every=0.2)


def some(endless: Iterator[T], number: int = AT_ONCE) -> list[T]:
    """The next few of them."""
    return list(itertools.islice(endless, number))


def library(pairs: Path) -> Iterator[str]:
    """Questions of the file in no order: module after module, as they stand there, is a change of topics."""
    lines = pairs.read_text(encoding="utf-8").splitlines()
    random.Random(7).shuffle(lines)  # noqa: S311 - the same order each time, no secret
    return itertools.cycle([json.loads(line)["question"] for line in lines])


def weather() -> Iterator[tuple[str, str]]:
    """Questions about something else in another language, and what should be answered."""
    for day in itertools.count(1):
        for city in CITIES:
            yield (
                f"Wie ist das Wetter in {city} am Tag {day}?",
                f"Das Wetter in {city} ist am Tag {day} sonnig.",
            )


def weather_questions() -> Iterator[str]:
    """What such people ask."""
    return (question for question, _ in weather())


def shuffled(lines: Iterable[str]) -> str:
    """The records with every question given the answer to another: what no version should learn from."""
    records = [json.loads(line) for line in lines]
    answers = [record["answer"] for record in records]
    random.Random(7).shuffle(answers)  # noqa: S311 - the same order each time, no secret
    wrong = ({**r, "answer": a} for r, a in zip(records, answers, strict=True))
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in wrong)
