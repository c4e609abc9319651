"""The model's name in bodies: found exactly, changed alone, whole and in pieces."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_serving.bodies import NameInAnswer, parse, usage_of, with_model
from trimtab_serving.openai import ApiError

NAME = b"abc123-5f-1"

REQUESTS = {
    "the usual form": b'{"model":"bot","prompt":"a"}',
    "spaces around everything": b'{ "prompt" : "a" , "model" \n : "bot" }',
    "the same text inside a string": b'{"prompt":"say \\"model\\": \\"bot\\"","model":"bot"}',
    "a string that ends in a backslash": b'{"prompt":"a\\\\","model":"bot"}',
    "another object with such a key": b'{"x":{"model":"bot"},"model":"bot","prompt":"a"}',
    "another object with such a key, behind": b'{"model":"bot","prompt":"a","x":[{"model":"y"}]}',
    "the key twice: the last one counts": b'{"model":"other","model":"bot","prompt":"a"}',
    "the key spelled with escapes": b'{"x":{"model":"no"},"\\u006dodel":"bot","prompt":"a"}',
    "the value spelled with escapes": b'{"model":"\\u0062ot","prompt":"a"}',
    "an empty object beside it": b'{"x":{},"prompt":"a","model":"bot"}',
}


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS.keys())
def test_only_the_requests_own_model_is_changed(body: bytes) -> None:
    assert parse(body, "prompt").model == "bot"
    assert json.loads(with_model(body, NAME)) == {**json.loads(body), "model": NAME.decode()}


def test_other_bytes_stay_as_they_are() -> None:
    body = b'{"temperature": 0.10, "model":"bot",  "prompt":"\\u00e9"}'
    assert with_model(body, NAME) == body.replace(b'"bot"', b'"%b"' % NAME)


names = st.sampled_from(["model", "x", "prompt", 'a"model":', "\\"])
leaves = st.none() | st.integers() | st.text(max_size=5) | names
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=2) | st.dictionaries(names, v), max_leaves=5
)


@settings(max_examples=60)
@given(st.dictionaries(names, values, max_size=3), st.text(max_size=5))
def test_any_request_keeps_all_but_its_model(fields: dict[str, Any], model: str) -> None:
    body = json.dumps({**fields, "model": model}, ensure_ascii=False).encode()
    assert json.loads(with_model(body, NAME)) == {**fields, "model": NAME.decode()}


PUBLIC = 'a "quoted" bot'
ANSWER = (
    b'data: {"id":"1","model":"%b","choices":[{"delta":{"content":"%b \\"model\\":\\"%b\\""}}]}\n\n'
    b'data: {"id":"1","model": "%b","choices":[]}\n\ndata: [DONE]\n\n'
) % (NAME, NAME, NAME, NAME)


def streamed(pieces: list[bytes]) -> bytes:
    names = NameInAnswer(NAME, PUBLIC)
    return b"".join([*(names.piece(piece) for piece in pieces), names.rest()])


def test_a_stream_may_be_cut_anywhere() -> None:
    whole = streamed([ANSWER])
    events = [json.loads(line[6:]) for line in whole.split(b"\n\n")[:2]]
    assert [e["model"] for e in events] == [PUBLIC, PUBLIC]
    assert NAME.decode() in events[0]["choices"][0]["delta"]["content"]
    for at in range(len(ANSWER)):
        for width in (1, 2, 7):
            pieces = [ANSWER[:at], ANSWER[at : at + width], ANSWER[at + width :]]
            assert streamed(pieces) == whole
    assert streamed([bytes([byte]) for byte in ANSWER]) == whole


def test_what_may_be_sent_is_sent_at_once() -> None:
    names = NameInAnswer(NAME, PUBLIC)
    assert names.piece(b"data: {}\n\n") == b"data: {}\n\n"
    assert names.piece(b'data: {"mod') == b"data: {"
    assert names.piece(b'e":1}\n\n') == b'"mode":1}\n\n'


def test_an_error_names_the_model_as_the_user_does() -> None:
    said = NameInAnswer(NAME, PUBLIC).anywhere(
        b'{"error":{"message":"The model `%b` is busy"}}' % NAME
    )
    assert json.loads(said)["error"]["message"] == f"The model `{PUBLIC}` is busy"


USAGE = {
    "a whole answer": (
        b'{"x":"\\"usage\\":{\\"prompt_tokens\\":9}","usage":{"prompt_tokens":5,"completion_tokens":3}}',
        {"prompt": 5, "completion": 3},
    ),
    "no usage": (b'{"choices":[]}', {}),
    "usage that is null": (b'{"choices":[],"usage":null}', {}),
}


@pytest.mark.parametrize("case", USAGE.values(), ids=USAGE.keys())
def test_tokens_are_read_where_they_are_told(case: tuple[bytes, dict[str, int]]) -> None:
    body, expected = case
    assert usage_of(body) == expected


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b'{"model":"\\ud800"}', b"{} {}", b"null", b'"model"']
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="no valid JSON"):
        parse(body, "prompt")
