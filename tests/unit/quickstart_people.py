"""People who ask and rate, against a server that answers as a gateway does."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from examples.quickstart.kube import CommandFailed
from examples.quickstart.people import (
    People,
    library,
    meanwhile,
    shuffled,
    some,
    weather,
    weather_questions,
)


class Gateway(ThreadingHTTPServer):
    """Answers alternately by two versions, and remembers who asked and what was said."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.numbers = itertools.count()
        self.sessions: list[str] = []
        self.keys: set[str] = set()
        self.said: dict[str, dict[str, Any]] = {}
        self.is_broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers["Authorization"])
        if self.path == "/v1/feedback":
            self.server.said[given["id"]] = given
            self._answer({}, "")
            return
        self.server.sessions.append(self.headers["X-Session"])
        number = next(self.server.numbers)
        self._answer({"id": f"r{number}"}, ("good", "bad")[number % 2])

    def _answer(self, body: dict[str, str], version: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(503 if self.server.is_broken else 200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-trimtab-version", version)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def people(gateway: Gateway) -> Iterator[People]:
    with closing(People(gateway.url, "a-key", "bot")) as found:
        yield found


def test_each_conversation_is_another_persons(gateway: Gateway, people: People) -> None:
    people.ask(["Why?"] * 20)
    with closing(People(gateway.url, "a-key", "bot")) as others:
        others.ask(["Why?"] * 20)
    assert len(set(gateway.sessions)) == 40
    assert gateway.keys == {"Bearer a-key"}


def test_people_are_content_with_some_versions_only(gateway: Gateway, people: People) -> None:
    answers = people.rate(["Why?"] * 10, {"good"})
    for answer in answers:
        rating = "positive" if answer.version == "good" else "negative"
        assert gateway.said[answer.id] == {"id": answer.id, "rating": rating}
    assert {answer.version for answer in answers} == {"good", "bad"}


def test_each_question_is_corrected_by_its_own_answer(gateway: Gateway, people: People) -> None:
    people.correct([("One?", "1"), ("Two?", "2")])
    assert sorted(said["correction"] for said in gateway.said.values()) == ["1", "2"]
    assert {said["rating"] for said in gateway.said.values()} == {"negative"}


def test_a_request_that_fails_is_told(gateway: Gateway, people: People) -> None:
    gateway.is_broken = True
    with pytest.raises(CommandFailed, match="/v1/chat/completions answered 503"):
        people.ask(["Why?"])


def test_nobody_who_answers_is_told() -> None:
    with (
        closing(People("http://127.0.0.1:1", "a-key", "bot")) as people,
        pytest.raises(CommandFailed, match="was not answered"),
    ):
        people.ask(["Why?"])


def test_people_go_on_until_it_holds_and_no_longer() -> None:
    turns: list[int] = []
    meanwhile(lambda: turns.append(0), lambda: len(turns) == 3, 60, "three turns")
    assert len(turns) == 3
    with pytest.raises(CommandFailed, match="a fourth turn did not happen"):
        meanwhile(lambda: None, lambda: False, 0, "a fourth turn")


def test_questions_have_no_end_and_no_order_of_modules(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"question": f"Q{n}", "answer": f"A{n}"} for n in range(50)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = some(library(pairs), 100)
    assert sorted(asked[:50]) == sorted(row["question"] for row in rows)
    assert asked[:50] == asked[50:]
    assert asked[:50] != [row["question"] for row in rows]
    assert len(set(some(weather_questions(), 300))) == 300
    assert [question for question, _ in itertools.islice(weather(), 30)] == some(
        weather_questions(), 30
    )


def test_shuffled_answers_belong_to_other_questions() -> None:
    rows = [{"question": f"Q{n}", "answer": f"A{n}", "module": "m"} for n in range(50)]
    wrong = [json.loads(line) for line in shuffled(map(json.dumps, rows)).splitlines()]
    assert [row["question"] for row in wrong] == [row["question"] for row in rows]
    assert sorted(row["answer"] for row in wrong) == sorted(row["answer"] for row in rows)
    right = sum(row["answer"][1:] == row["question"][1:] for row in wrong)
    assert right < 5
    assert {row["module"] for row in wrong} == {"m"}
