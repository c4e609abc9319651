"""The source capture://: what gateways kept and callers said of it, as records."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.pods import Pod

from trimtab_api.documents import Output
from trimtab_api.v1alpha1.data import Columns, DatasetTask
from trimtab_pipelines.sources import Access, Secret, open_reader
from trimtab_serving.gateway.exchange import Exchange
from trimtab_serving.gateway.kept import Opinion, exchange_line, feedback_line, whole
from trimtab_serving.gateway.said import Said

PAIR = ("bot", "bot-1")
FOLDER = "/captures/chat"
Records = list[dict[str, Any]]


def exchange(name: str, prompt: str | Records, answer: str = "An answer.") -> bytes:
    """A line as gateways write it."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    texts = [(m["role"], m["content"]) for m in messages]
    kept = Exchange(*PAIR, "d", messages, is_unit=True, is_opening=True, nonce=name)
    return whole(exchange_line(kept, Said(answer, "stop"), texts, 1))


def feedback(name: str, seconds: int = 2, **said: Any) -> bytes:
    return feedback_line(name, PAIR, Opinion(**said), seconds)


def records(
    pod: Pod, *lines: bytes, task: str = "Instruction", columns: Columns | None = None
) -> Records:
    """What a Dataset reads of one file with these lines."""
    pod.file(f"{FOLDER}/20261127T21-gateway-1.jsonl", b"".join(lines))
    workspace = pod.root / "work"
    workspace.mkdir(exist_ok=True)
    access = Access(
        uri="capture://chat",
        field="sources[0]",
        secret=Secret(Path("/nowhere")),
        output=Output(repository="r", result_tag="t"),
        workspace=workspace,
        task=DatasetTask(task),
        columns=columns or Columns(),
    )
    reader = open_reader(access)
    (item,) = reader.listed()
    return [json.loads(line) for line in reader.fetch(item).read_text().splitlines()]


def test_a_correction_is_the_answer_that_should_have_been(pod: Pod) -> None:
    found = records(
        pod,
        exchange("a", "What is two and two?", "Five."),
        feedback("a", rating="negative", correction="Four."),
        exchange("b", "Nobody said anything."),
        feedback("gone", correction="Of what was never kept."),
    )
    assert found == [{"prompt": "What is two and two?", "completion": "Four."}]


def test_what_was_said_last_counts_in_whatever_file_it_stands(pod: Pod) -> None:
    pod.file(f"{FOLDER}/20261127T20-gateway-2.jsonl", feedback("a", 9, correction="Last."))
    found = records(
        pod,
        feedback("a", 3, correction="First."),
        exchange("a", "Q?"),
        exchange("a", "Q?"),
        feedback("a", 5, rating="positive"),
    )
    assert found == [{"prompt": "Q?", "completion": "Last."}]


def test_ratings_of_two_answers_and_corrections_are_preferences(pod: Pod) -> None:
    found = records(
        pod,
        exchange("a", "Q?", "Good."),
        feedback("a", rating="positive"),
        exchange("b", "Q?", "Bad."),
        feedback("b", rating="negative"),
        exchange("c", "Q?", "Bad."),
        feedback("c", rating="negative"),
        exchange("d", "Other?", "Wrong."),
        feedback("d", correction="Right."),
        exchange("e", "Liked and disliked alike?", "Same."),
        feedback("e", rating="positive"),
        exchange("f", "Liked and disliked alike?", "Same."),
        feedback("f", rating="negative"),
        task="Preference",
    )
    assert found == [
        {"prompt": "Other?", "chosen": "Right.", "rejected": "Wrong."},
        {"prompt": "Q?", "chosen": "Good.", "rejected": "Bad."},
    ]


def test_a_conversation_becomes_a_chat_and_no_instruction(pod: Pod) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And now?"},
    ]
    lines = (exchange("a", turns, "Long."), feedback("a", correction="Brief."))
    answer = {"role": "assistant", "content": "Brief."}
    assert records(pod, *lines, task="Chat") == [{"messages": [*turns, answer]}]
    assert records(pod, *lines) == []
    assert records(pod, *lines, task="Preference") == []


def test_records_have_the_names_of_the_datasets_columns(pod: Pod) -> None:
    lines = (
        exchange("a", "Q?"),
        feedback("a", correction="A.", labels=("billing",)),
        exchange("b", "R?"),
        feedback("b", correction="B."),
    )
    named = Columns(prompt="question", completion="answer", label="topic")
    found = records(pod, *lines, columns=named)
    assert found == [{"question": "Q?", "answer": "A.", "topic": "billing"}]


def test_lines_that_nobody_can_read_are_left_out(pod: Pod) -> None:
    good = exchange("a", "Q?") + feedback("a", correction="A.")
    bad = b'{"kind":"exchange"}\n[]\n\xff\xfe\n{"kind":"other"}\nnull\n' + b"[" * 100_000 + b"\n"
    on_its_way = feedback("a", 5, correction="Never.")[:-1]
    assert records(pod, bad, good, on_its_way) == [{"prompt": "Q?", "completion": "A."}]


def test_a_dataset_is_made_of_it(pod: Pod) -> None:
    lines = []
    for n in range(30):
        lines += [exchange(f"{n:02}", f"Q{n}?"), feedback(f"{n:02}", correction=f"A{n}.")]
    pod.file(f"{FOLDER}/20261127T21-gateway-1.jsonl", b"".join(lines))
    first, second = pod.prepare("capture://chat"), pod.prepare("capture://chat")
    assert first.records is not None
    assert (first.records.read, first.records.kept) == (30, 30)
    assert first.data is not None
    assert first.data == second.data


def test_what_is_not_there_is_told_with_the_remedy(pod: Pod) -> None:
    lacking = pod.prepare("capture://chat")
    assert lacking.failure is not None
    assert lacking.failure.reason == "SourceNotFound"
    assert 'set spec.gateway.capture of the InferenceService "chat"' in lacking.failure.message
    pod.file(f"{FOLDER}/20261127T21-gateway-1.jsonl", exchange("a", "Q?"))
    empty = pod.prepare("capture://chat")
    assert empty.failure is not None
    assert empty.failure.reason == "DataEmpty"
    text = pod.prepare("capture://chat", task="Text")
    assert text.failure is not None
    assert "set task: Instruction, Chat or Preference" in text.failure.message


def test_nothing_that_was_corrected_yet_is_no_reason_to_be_without_the_rest(pod: Pod) -> None:
    pod.file(f"{FOLDER}/20261127T21-gateway-1.jsonl", exchange("a", "Q?"))
    lines = [json.dumps({"prompt": f"Q{n}?", "completion": f"A{n}."}) + "\n" for n in range(30)]
    pod.file("/configmaps/pairs/train.jsonl", "".join(lines).encode())
    found = pod.prepare("configmap://pairs/train.jsonl", "capture://chat")
    assert found.records is not None, found.failure
    assert found.records.kept == 30
    assert any("captured.jsonl has no record" in remark for remark in found.warnings)


def test_sources_of_which_none_has_a_record_yet_are_refused(pod: Pod) -> None:
    for folder in (FOLDER, "/captures/other"):
        pod.file(f"{folder}/20261127T21-gateway-1.jsonl", exchange("a", "Q?"))
    failure = pod.prepare("capture://chat", "capture://other").failure
    assert failure is not None
    assert (failure.reason, "none has a record" in failure.message) == ("DataEmpty", True)


@pytest.mark.parametrize("uri", ["capture://", "capture://chat/x", "capture://../etc"])
def test_an_address_names_a_service_and_nothing_else(pod: Pod, uri: str) -> None:
    failure = pod.prepare(uri).failure
    assert failure is not None
    assert failure.reason == "UriUnsupported"
