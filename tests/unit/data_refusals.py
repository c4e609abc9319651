"""The stage `prepare` on bad data and bad addresses: one sentence with the place and the remedy."""

from typing import Any

import pytest
from tests.pods import CONVERSATION, Pod, jsonl, pairs

from trimtab_api import names
from trimtab_api.reasons import FailureReason

URI = "pvc://claim/in.jsonl"
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
