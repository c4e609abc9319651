"""The stage `prepare` on data: what goes in, what comes out, and what is said about bad input."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.pods import Pod, jsonl, pairs

from trimtab_api import names
from trimtab_api.reasons import FailureReason
from trimtab_pipelines.preparation.splitting import bucket_of

URI = "pvc://claim/in.jsonl"


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as running:
        yield running


@pytest.fixture
def pod(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(tmp_path, registry, monkeypatch)


def lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def test_records_are_divided_pushed_and_counted(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(200)))
    result = pod.prepare(URI)
    assert pod.exit_code == 0
    assert result.records is not None
    assert result.data is not None
    files = pod.pulled(result.data.uri)
    assert sorted(files) == ["dataset.json", "test.jsonl", "train.jsonl", "validation.jsonl"]
    divided = {name: len(lines(files[f"{name}.jsonl"])) for name in ("train", "validation", "test")}
    counts = result.records
    assert divided == {
        "train": counts.train,
        "validation": counts.validation,
        "test": counts.test,
    }
    assert (counts.read, counts.kept) == (200, 200)
    assert json.loads(files["dataset.json"]) == {"task": "Instruction", "records": divided}
    assert pod.manifest(result.data.uri).kind == "Dataset"


def test_the_same_data_has_the_same_digest_wherever_it_comes_from(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(50)))
    pod.file("/configmaps/tickets/all.json", json.dumps(pairs(50)))
    first, second = pod.prepare(URI), pod.prepare("configmap://tickets/all.json")
    assert first.data is not None
    assert second.data is not None
    assert first.data.digest == second.data.digest


def test_new_data_moves_no_old_record(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(300)))
    pod.file("/claims/claim/more.jsonl", jsonl(*pairs(300, start=300)))
    before, after = pod.prepare(URI), pod.prepare(URI, "pvc://claim/more.jsonl")
    assert before.data is not None
    assert after.data is not None
    old, new = pod.pulled(before.data.uri, "old"), pod.pulled(after.data.uri, "new")
    for name in ("train", "validation", "test"):
        assert new[f"{name}.jsonl"].startswith(old[f"{name}.jsonl"])


def test_the_bucket_of_a_value_is_the_same_in_every_release() -> None:
    values = [("", 0), ("Because.", 0), ("Because.", 7), ("日本", 7)]
    assert [bucket_of(value, seed) for value, seed in values] == [21, 25, 93, 28]


def test_equal_answers_never_fall_on_both_sides(pod: Pod) -> None:
    records = [{"prompt": f"Q{n}?", "completion": f"A{n % 20}."} for n in range(400)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, split={"train": 60, "validation": 20, "test": 20})
    assert result.data is not None
    files = pod.pulled(result.data.uri)
    answers = [
        {record["completion"] for record in lines(files[f"{name}.jsonl"])}
        for name in ("train", "validation", "test")
    ]
    assert sum(map(len, answers)) == len(set().union(*answers)) == 20


def test_exact_duplicates_are_dropped_and_counted(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(100), *pairs(40)))
    result = pod.prepare(URI)
    assert result.records is not None
    assert (result.records.read, result.records.kept) == (140, 100)
    assert "40 of 140 records were exact duplicates and dropped" in result.warnings


def test_columns_are_mapped_and_others_are_left_out(pod: Pod) -> None:
    records = [{"question": f"Q{n}", "reply": n, "id": n} for n in range(30)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, columns={"prompt": "question", "completion": "reply"})
    assert result.data is not None
    record = lines(pod.pulled(result.data.uri)["train.jsonl"])[0]
    assert record == {"prompt": "Q0", "completion": "0"}


def test_a_glob_reads_all_files_in_the_order_of_their_names(pod: Pod) -> None:
    pod.file("/claims/claim/deep/b.jsonl", jsonl(*pairs(20, start=20)))
    pod.file("/claims/claim/deep/a.jsonl", jsonl(*pairs(20)))
    pod.file("/claims/claim/deep/readme.md", "not data")
    result = pod.prepare("pvc://claim/**/*.jsonl", split={"train": 100, "validation": 0, "test": 0})
    assert result.data is not None
    train = lines(pod.pulled(result.data.uri)["train.jsonl"])
    assert [record["prompt"] for record in train] == [f"Q{n}?" for n in range(40)]


def test_keys_of_a_configmap_are_read_once(pod: Pod) -> None:
    pod.file("/configmaps/tickets/..2026_11_22/a.jsonl", jsonl(*pairs(20)))
    (pod.root / "configmaps/tickets/..data").symlink_to("..2026_11_22")
    (pod.root / "configmaps/tickets/a.jsonl").symlink_to("..data/a.jsonl")
    result = pod.prepare("configmap://tickets/**/*.jsonl")
    assert result.records is not None
    assert result.records.read == 20


def test_prepared_data_is_a_source_too(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(60)))
    first = pod.prepare(URI)
    assert first.data is not None
    second = pod.prepare(first.data.uri)
    assert second.records == first.records
    only_test = pod.prepare(f"{first.data.uri}#t*.jsonl")
    assert only_test.records is not None
    assert first.records is not None
    assert only_test.records.read == first.records.train + first.records.test


def test_the_result_survives_the_pod(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(50)))
    result = pod.prepare(URI)
    stored = f"oci://{pod.registry.address}/team/data:run-1"
    assert pod.manifest(stored).artifact_type == "application/vnd.trimtab.result.v1+json"
    assert result.failure is None


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
]


def test_conversations_are_kept_as_they_are(pod: Pod) -> None:
    records = [
        {
            "messages": [
                *CONVERSATION,
                {"role": "user", "content": f"{n}?"},
                {"role": "assistant", "content": f"{n}!"},
            ]
        }
        for n in range(30)
    ]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, task="Chat", split={"train": 100, "validation": 0, "test": 0})
    assert result.data is not None
    assert lines(pod.pulled(result.data.uri)["train.jsonl"]) == records


GOOD = jsonl(*pairs(20))
CHAT = {"task": "Chat"}
BAD: list[Any] = [
    pytest.param(b"", {}, "DataEmpty", "in.jsonl has no record", id="an empty file"),
    pytest.param(b"\n \n", {}, "DataEmpty", "has no record", id="blank lines alone"),
    pytest.param(
        GOOD + '{"prompt": "a", \n' + GOOD,
        {},
        "DataMalformed",
        "pvc://claim/in.jsonl, line 21: the line is not valid JSON",
        id="a broken JSON line",
    ),
    pytest.param(
        GOOD + "[1]\n",
        {},
        "DataMalformed",
        "line 21: a record must be an object, not a list",
        id="a line that is no object",
    ),
    pytest.param(
        jsonl({"q": "a", "a": "b"}),
        {},
        "ColumnMissing",
        'line 1: there is no column "prompt"; there are: q, a; set the dataset\'s columns.prompt',
        id="a missing column",
    ),
    pytest.param(jsonl(*pairs(1)), {}, "TooFewRecords", "only one record", id="one row"),
    pytest.param(
        GOOD.encode() + '{"prompt": "caf\xe9"}'.encode("latin-1"),
        {},
        "DataEncoding",
        f"line 21: the byte at position {len(GOOD) + 15} of the file is not UTF-8",
        id="a wrong encoding",
    ),
    pytest.param(
        GOOD.encode("utf-16"),
        {},
        "DataEncoding",
        "the byte at position 0 of the file is not UTF-8",
        id="UTF-16",
    ),
    pytest.param(
        jsonl({"prompt": "a", "completion": " "}),
        {},
        "DataMalformed",
        'line 1: "completion" is empty',
        id="a blank answer",
    ),
    pytest.param(
        jsonl({"prompt": None, "completion": "b"}),
        {},
        "DataMalformed",
        '"prompt" is empty',
        id="a null prompt",
    ),
    pytest.param(
        jsonl({"prompt": ["a"], "completion": "b"}),
        {},
        "DataMalformed",
        '"prompt" is not a text',
        id="a list for a prompt",
    ),
    pytest.param(
        '{"prompt": "\\ud800", "completion": "b"}',
        {},
        "DataMalformed",
        "half of a surrogate pair",
        id="half a surrogate pair",
    ),
    pytest.param(
        jsonl(*pairs(1)) * 9, {}, "OnlyDuplicates", "all 9 records are equal", id="only duplicates"
    ),
    pytest.param(
        jsonl({"messages": []}),
        CHAT,
        "DataMalformed",
        "must be a list of objects",
        id="no messages",
    ),
    pytest.param(
        jsonl({"messages": [{"role": "user"}]}),
        CHAT,
        "DataMalformed",
        "message 1: a message must be an object",
        id="a message without content",
    ),
    pytest.param(
        jsonl({"messages": CONVERSATION[:2]}),
        CHAT,
        "DataMalformed",
        "the last message must be the assistant's",
        id="no answer in a conversation",
    ),
    pytest.param(
        jsonl({"messages": [*CONVERSATION, CONVERSATION[2]]}),
        CHAT,
        "DataMalformed",
        "must alternate",
        id="two answers in a row",
    ),
    pytest.param(
        jsonl({"messages": [{"role": "bot", "content": "x"}]}),
        CHAT,
        "DataMalformed",
        "not 'bot'",
        id="an unknown role",
    ),
]


@pytest.mark.parametrize(("content", "dataset", "reason", "message"), BAD)
def test_bad_data_ends_the_run_with_one_sentence(
    pod: Pod, content: bytes | str, dataset: dict[str, Any], reason: str, message: str
) -> None:
    pod.file("/claims/claim/in.jsonl", content)
    result = pod.prepare(URI, **dataset)
    assert pod.exit_code == names.EXIT_USER_ERROR
    assert result.failure is not None
    assert result.failure.reason == FailureReason(reason)
    assert message in result.failure.message
    assert "\n" not in result.failure.message


SOURCES: list[Any] = [
    pytest.param(
        "ftp://host/a.jsonl", "UriUnsupported", "use oci://, configmap://", id="an unknown scheme"
    ),
    pytest.param("tickets.jsonl", "UriUnsupported", "of no scheme that is known", id="no scheme"),
    pytest.param("pvc://claim", "UriUnsupported", "pvc://claim/path", id="a claim without a path"),
    pytest.param(
        "pvc://claim/../../etc/passwd",
        "UriUnsupported",
        "pvc://claim/path",
        id="a path that leaves the claim",
    ),
    pytest.param(
        "pvc://claim/missing.jsonl",
        "SourceNotFound",
        "no missing.jsonl in the claim",
        id="a missing file",
    ),
    pytest.param(
        "pvc://other/a.jsonl",
        "SourceNotFound",
        'the claim "other" is not mounted',
        id="a missing claim",
    ),
    pytest.param(
        "pvc://claim/deep", "SourceNotFound", "is a folder; name its files", id="a folder"
    ),
    pytest.param(
        "configmap://tickets/b.jsonl", "SourceNotFound", "it has: a.jsonl", id="a missing key"
    ),
    pytest.param(
        "pvc://claim/deep/*.md", "SourceNotFound", "no deep/*.md", id="a glob that matches nothing"
    ),
    pytest.param(
        "pvc://claim/table.xlsx",
        "DataMalformed",
        "set the source's format",
        id="an ending that tells nothing",
    ),
    pytest.param("s3://bucket", "UriUnsupported", "s3://bucket/key", id="a bucket without a key"),
    pytest.param(
        "https://host/*.jsonl", "UriUnsupported", "cannot list files", id="a glob on the web"
    ),
    pytest.param(
        "https://me:pw@host/a.jsonl",
        "UriUnsupported",
        "does not belong into an address",
        id="a password in an address",
    ),
    pytest.param(
        "hf://datasets/org", "UriUnsupported", "hf://datasets/org/name/path", id="half a repository"
    ),
    pytest.param(
        "hf://datasets/org/name/a.jsonl",
        "RevisionMissing",
        "needs a commit",
        id="a hub without a commit",
    ),
    pytest.param("oci://Host/UPPER", "UriUnsupported", "lower case", id="no OCI reference"),
]


@pytest.mark.parametrize(("uri", "reason", "message"), SOURCES)
def test_a_source_that_cannot_be_read_is_named(
    pod: Pod, uri: str, reason: str, message: str
) -> None:
    pod.file("/claims/claim/table.xlsx", "x")
    pod.file("/claims/claim/deep/a.jsonl", GOOD)
    pod.file("/configmaps/tickets/a.jsonl", GOOD)
    result = pod.prepare(uri)
    assert result.failure is not None
    assert result.failure.reason == FailureReason(reason)
    assert message in result.failure.message


def test_a_missing_artifact_is_the_sources_fault(pod: Pod) -> None:
    result = pod.prepare(f"oci://{pod.registry.address}/nothing:here")
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SOURCE_NOT_FOUND
    assert "sources[0]" in result.failure.message


def test_splits_that_are_empty_are_told_of(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(3)))
    result = pod.prepare(URI)
    assert pod.exit_code == 0
    assert "the test split has no record: 3 records are too few for 5 %" in result.warnings
