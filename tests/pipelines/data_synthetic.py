"""Question-answer pairs of a teacher: a real server on loopback, the whole stage around it."""

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from tests.chatserver import MODEL, Answering, ChatServer, Reply, chat_server
from tests.pods import Pod, jsonl, pairs
from tests.preparedfiles import kept, report_of

from trimtab_api import names
from trimtab_api.documents.preparation import PrepareResult, Synthesis
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.synthetic import Synthetic

ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}
TEXTS = "pvc://claim/texts.jsonl"


def about(number: int) -> str:
    return f"The pump P{number} is made of steel and lifts {number * 7} litres an hour."


def written(texts: int) -> str:
    return jsonl(*({"text": about(n)} for n in range(1, texts + 1)))


def number_in(asked: str) -> int:
    found = re.search(r"pump P(\d+)", asked)
    assert found, asked
    return int(found[1])


def good(asked: str) -> str:
    """Two pairs that stand on the text, in the form that was asked for."""
    n = number_in(asked)
    return json.dumps(
        [
            {"question": f"What is pump P{n} made of?", "answer": f"Pump P{n} is made of steel."},
            {"question": f"What does P{n} lift?", "answer": f"It lifts {n * 7} litres an hour."},
        ]
    )


def synthesis(server: ChatServer, *, kept_tag: str = "", **changes: Any) -> Synthesis:
    recordings = changes.pop("recordings", [])
    endpoint = {"url": server.url, "model": MODEL, **changes.pop("teacher", {})}
    synthetic = Synthetic.model_validate({"teacher": endpoint, "pairsPerText": 2, **changes})
    return Synthesis(synthetic=synthetic, url=server.url, kept_tag=kept_tag, recordings=recordings)


def prepared(
    pod: Pod, server: ChatServer, texts: int = 6, *, uri: str = TEXTS, **changes: Any
) -> PrepareResult:
    pod.file("/claims/claim/texts.jsonl", written(texts))
    dataset = changes.pop("dataset", {})
    return pod.prepare(
        uri, synthesis=synthesis(server, **changes), **{"split": ALL_TRAIN, **dataset}
    )


def dropped(result: PrepareResult) -> dict[str, int]:
    assert result.records is not None
    return {each.step: each.count for each in result.records.dropped if each.count}


def test_a_teacher_writes_the_records_and_each_is_marked(pod: Pod) -> None:
    with chat_server(good) as server:
        result = prepared(pod, server)
    records = kept(pod, result)
    assert records[0] == {
        "prompt": "What is pump P1 made of?",
        "completion": "Pump P1 is made of steel.",
        "synthetic": True,
    }
    assert len(records) == 12
    assert all(record["synthetic"] is True for record in records)
    assert result.records is not None
    assert (result.records.read, result.records.kept, result.records.synthetic) == (12, 12, 12)
    assert any("12 records are synthetic: written by teacher" in each for each in result.warnings)
    page, figures = report_of(pod, result)
    assert figures["records"]["synthetic"] == 12
    assert "synthetic" in page
    request = server.requests[0]
    assert (request["model"], request["max_tokens"], request["temperature"]) == (MODEL, 1024, 0.7)
    assert "2 pairs" in request["messages"][0]["content"]


def test_documents_are_read_as_texts_and_the_teacher_is_told_what_else_matters(pod: Pod) -> None:
    pod.file("/claims/claim/pumps.md", about(3))
    with chat_server(good) as server:
        result = pod.prepare(
            "pvc://claim/pumps.md",
            synthesis=synthesis(server, instructions="Be brief."),
            split=ALL_TRAIN,
        )
    assert len(kept(pod, result)) == 2
    assert server.requests[0]["messages"][0]["content"].endswith("Be brief.")


def test_the_recording_gives_the_same_digest_without_the_teacher(pod: Pod) -> None:
    turns = iter(range(1000))

    def moody(asked: str) -> str:
        """Never the same answer twice, as at a high temperature."""
        n, turn = number_in(asked), next(turns)
        return json.dumps(
            [{"question": f"Question {turn} on P{n}?", "answer": f"P{n} is made of steel."}]
        )

    with chat_server(moody) as server:
        first = prepared(pod, server, teacher={"concurrency": 2})
        again = prepared(pod, server)
        asked = len(server.requests)
    assert first.data is not None
    assert again.data is not None
    assert first.recording is not None
    assert again.data.digest != first.data.digest, "a teacher answers differently each time"
    assert asked == 12
    with chat_server(lambda _: Reply(status=500)) as down:
        replayed = prepared(pod, down, recordings=[first.recording])
    assert replayed.data is not None
    assert replayed.data.digest == first.data.digest
    assert replayed.recording == first.recording
    assert down.requests == []


def test_only_what_is_new_is_asked(pod: Pod) -> None:
    with chat_server(good) as server:
        first = prepared(pod, server, texts=4)
        assert first.recording is not None
        server.requests.clear()
        second = prepared(pod, server, texts=6, recordings=[first.recording])
        assert sorted(map(number_in, server.asked)) == [5, 6]
        server.requests.clear()
        third = prepared(pod, server, texts=6, recordings=[first.recording], temperature=0)
        assert len(server.asked) == 6, "another temperature is another question"
    assert len(kept(pod, second)) == len(kept(pod, third)) == 12


def test_an_earlier_recording_that_is_gone_is_asked_anew_and_a_named_one_is_missed(
    pod: Pod,
) -> None:
    gone = f"oci://{pod.registry.address}/team/data@sha256:{'a' * 64}"
    with chat_server(good) as server:
        result = prepared(pod, server, recordings=[gone])
        assert len(kept(pod, result)) == 12
        assert any("asked anew" in each for each in result.warnings)
        result = prepared(pod, server, recordings=[gone], recording=gone)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SOURCE_NOT_FOUND
    assert "synthetic.recording" in result.failure.message


def test_what_is_no_recording_is_refused(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(10)))
    other = pod.prepare("pvc://claim/in.jsonl")
    assert other.data is not None
    with chat_server(good) as server:
        result = prepared(pod, server, recordings=[other.data.uri], recording=other.data.uri)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.RECORDING_INVALID
    assert server.requests == []


# --- filters ---


def test_pairs_without_ground_repeated_questions_and_unreadable_answers_are_counted(
    pod: Pod,
) -> None:
    def mixed(asked: str) -> str:
        n = number_in(asked)
        if n == 2:
            return "I would rather talk about the weather."
        if n == 3:
            return json.dumps(
                [{"question": "Who invented it?", "answer": "Archimedes of Syracuse."}]
            )
        if n == 4:
            return json.dumps([{"question": "What does P4 lift?", "answer": "It lifts 99 litres."}])
        if n == 5:
            return json.dumps(
                [{"question": "what is PUMP P1 made of", "answer": "It is made of steel."}]
            )
        return good(asked)

    with chat_server(mixed) as server:
        result = prepared(pod, server)
    assert dropped(result) == {"OffFormat": 1, "Ungrounded": 2, "RepeatedQuestions": 1}
    assert result.records is not None
    assert (result.records.read, result.records.kept) == (8, 4)
    _, figures = report_of(pod, result)
    steps = {step["step"]: step for step in figures["steps"]}
    assert steps["OffFormat"]["examples"][0]["text"].startswith("I would rather")
    assert "99" in steps["Ungrounded"]["examples"][1]["why"]


def test_equal_texts_are_asked_about_once(pod: Pod) -> None:
    pod.file("/claims/claim/more.jsonl", written(2))
    with chat_server(good) as server:
        result = pod.prepare(
            sources=[{"uri": "pvc://claim/more.jsonl"}] * 2,
            synthesis=synthesis(server),
            split=ALL_TRAIN,
        )
    assert len(server.requests) == 2
    assert dropped(result) == {"ExactDuplicates": 2}
    assert len(kept(pod, result)) == 4


def test_what_is_masked_or_dropped_never_reaches_the_teacher(pod: Pod) -> None:
    secret = "AKIAIOSFODNN7EXAMPL3"
    pod.file(
        "/claims/claim/in.jsonl",
        jsonl(
            {"text": f"{about(1)} Its key is {secret}."},
            {"text": f"{about(2)} Call ann@example.com."},
        ),
    )
    with chat_server(good) as server:
        result = pod.prepare(
            "pvc://claim/in.jsonl",
            synthesis=synthesis(server),
            split=ALL_TRAIN,
            clean={
                "secrets": {"action": "Redact"},
                "pii": {"action": "Drop"},
                "characters": {"max": 70},
            },
        )
    assert len(server.asked) == 1
    assert secret not in server.asked[0]
    assert "<SECRET>" in server.asked[0]
    assert dropped(result) == {"Pii": 1}, "the limit of characters is for records"


def test_pairs_go_through_the_cleaning_of_records(pod: Pod) -> None:
    with chat_server(good) as server:
        result = prepared(pod, server, dataset={"clean": {"characters": {"max": 46}}})
    assert set(dropped(result)) == {"Characters"}


# --- a teacher that does not do its part ---


def published(pod: Pod) -> int:
    return sum(b'"Dataset"' in raw for _, raw in pod.registry.manifests.values())


def failure(pod: Pod, server: ChatServer, **changes: Any) -> tuple[str, str]:
    """Why the stage ends; nothing is published then."""
    before = published(pod)
    result = prepared(pod, server, **changes)
    assert result.failure is not None
    assert result.data is None
    assert published(pod) == before
    return result.failure.reason, result.failure.message


@pytest.mark.parametrize(
    ("answering", "reason", "told"),
    [
        pytest.param(
            lambda _: Reply(status=503, headers={"Retry-After": "0"}),
            FailureReason.ENDPOINT_UNREACHABLE,
            "answers 503",
            id="down",
        ),
        pytest.param(
            lambda _: Reply(status=400, body=b'{"error": {"message": "context is 512 tokens"}}'),
            FailureReason.ENDPOINT_REFUSED,
            "context is 512 tokens",
            id="one that cannot read so much",
        ),
        pytest.param(
            lambda _: Reply(body=b"<html>welcome</html>"),
            FailureReason.ENDPOINT_REFUSED,
            "does not speak the OpenAI API",
            id="a page in place of an API",
        ),
        pytest.param(
            lambda _: Reply("no JSON at all"),
            FailureReason.ANSWERS_OFF_FORMAT,
            "no JSON at all",
            id="off format",
        ),
        pytest.param(
            lambda _: Reply(None), FailureReason.ANSWERS_OFF_FORMAT, "said nothing", id="silent"
        ),
        pytest.param(
            lambda asked: json.dumps([{"question": f"Why P{number_in(asked)}?", "answer": "Because of dragons."}]),
            FailureReason.NOTHING_LEFT,
            "synthetic.groundedAtLeast",
            id="one that makes everything up",
        ),
    ],
)  # fmt: skip
def test_a_teacher_that_fails_leaves_nothing_half_made(
    pod: Pod, answering: Answering, reason: FailureReason, told: str
) -> None:
    with chat_server(answering) as server:
        found = failure(pod, server, texts=30)
    assert found[0] == reason
    assert told in found[1]
    retried = reason is FailureReason.ENDPOINT_UNREACHABLE
    assert pod.exit_code == (names.EXIT_RETRYABLE if retried else names.EXIT_USER_ERROR)


def test_a_key_is_sent_and_one_that_is_missing_is_asked_for(pod: Pod) -> None:
    with chat_server(good, key="sk-1") as server:
        found = failure(pod, server)
        assert found[0] == FailureReason.ENDPOINT_FORBIDDEN
        assert "OPENAI_API_KEY" in found[1]
        pod.secret("teacher", OPENAI_API_KEY="sk-1\n")
        assert len(kept(pod, prepared(pod, server))) == 12


def test_a_model_that_is_not_there_is_told(pod: Pod) -> None:
    with chat_server(good) as server:
        found = failure(pod, server, teacher={"model": "another"})
    assert found[0] == FailureReason.ENDPOINT_REFUSED
    assert "The model `another` does not exist" in found[1]


def test_a_teacher_that_is_too_slow_is_told(pod: Pod) -> None:
    with chat_server(lambda asked: Reply(good(asked), after_seconds=30)) as server:
        found = failure(pod, server, texts=1, teacher={"timeoutSeconds": 1})
    assert found[0] == FailureReason.ENDPOINT_UNREACHABLE
    assert "raise timeoutSeconds" in found[1]
    assert len(server.requests) == 3


def test_a_teacher_that_stumbles_is_asked_again(pod: Pod) -> None:
    stumbles = iter([429, 500, 503])

    def stumbling(asked: str) -> Reply | str:
        status = next(stumbles, None)
        return Reply(status=status, headers={"Retry-After": "0"}) if status else good(asked)

    with chat_server(stumbling) as server:
        assert len(kept(pod, prepared(pod, server))) == 12
    assert len(server.requests) == 9


def test_what_was_answered_before_a_breakdown_is_not_asked_again(pod: Pod) -> None:
    def breaking(asked: str) -> Reply | str:
        if number_in(asked) > 16:
            return Reply(status=500, headers={"Retry-After": "0"})
        return "nonsense" if number_in(asked) == 1 else good(asked)

    patient: dict[str, Any] = {"teacher": {"concurrency": 1}, "kept_tag": f"answers-{uuid4()}"}
    with chat_server(breaking) as server:
        found = failure(pod, server, texts=20, **patient)
        assert found[0] == FailureReason.ENDPOINT_UNREACHABLE
        server.answering = good
        server.requests.clear()
        result = prepared(pod, server, texts=20, **patient)
        assert sorted(map(number_in, server.asked)) == [1, 17, 18, 19, 20]
    assert len(kept(pod, result)) == 40


def test_no_more_are_asked_at_once_than_the_endpoint_allows(pod: Pod) -> None:
    def slow(asked: str) -> Reply:
        return Reply(good(asked), after_seconds=0.05)

    with chat_server(slow) as server:
        prepared(pod, server, texts=12, teacher={"concurrency": 3})
    assert server.most_at_once == 3


# --- marks that stay ---


def test_the_mark_stays_when_the_data_is_read_again_beside_records_of_people(pod: Pod) -> None:
    with chat_server(good) as server:
        synthetic = prepared(pod, server)
    assert synthetic.data is not None
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(3)))
    result = pod.prepare("pvc://claim/in.jsonl", f"{synthetic.data.uri}#*.parquet", split=ALL_TRAIN)
    records = kept(pod, result)
    assert [record["synthetic"] for record in records] == [False] * 3 + [True] * 12
    assert result.records is not None
    assert result.records.synthetic == 12
    plain = kept(pod, pod.prepare("pvc://claim/in.jsonl", split=ALL_TRAIN))
    assert all("synthetic" not in record for record in plain)
