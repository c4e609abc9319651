"""The model's name in requests and answers, changed by touching as few bytes as possible.

Bodies are copied otherwise, so that a parameter that we have never heard of reaches the engine and
what the engine says reaches the user as it is.

Why searching bytes is exact: inside a JSON string a quote is always written with a backslash before
it, so `"model"` with a bare quote in front can only be a token of its own, and before a colon only
a key.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from trimtab_serving import openai

MODEL_KEY: Final = re.compile(rb'(?<!\\)"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
# A key may be spelled with escapes; then what looks like the only key may be another object's.
ESCAPED_LETTER: Final = b"\\u006"
# The first thing that an answer says, and each event of a stream: its id.
ANSWER_ID: Final = re.compile(rb'"id"\s*:\s*"((?:chatcmpl|cmpl)-)[^"\\]*"')
# An id that has not come by then will not come.
ID_WITHIN_BYTES: Final = 4096
USAGE: Final = b'"usage"'
TOKENS: Final = re.compile(rb'"(prompt|completion)_tokens"\s*:\s*(\d+)')


@dataclass(frozen=True, slots=True)
class Ask:
    """What must be known of a request to send it to the right place."""

    model: str
    stream: bool
    user: str | None
    body: bytes
    # The prompt or the messages, as they were sent.
    content: Any = None


def parse(body: bytes, content: str) -> Ask:
    """Read a request; `content` is the field that must be there besides the model."""
    fields = _fields(body)
    model = fields.get("model")
    if model is None:
        raise openai.missing_field("model")
    if not isinstance(model, str):
        raise openai.bad_field("model", "a string")
    _check_content(fields, content)
    _check_scope(fields)
    stream = fields.get("stream")
    if not isinstance(stream, bool | None):
        raise openai.bad_field("stream", "true or false")
    user = fields.get("user")
    if not isinstance(user, str | None):
        raise openai.bad_field("user", "a string")
    return Ask(model=model, stream=bool(stream), user=user, body=body, content=fields[content])


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = from_json(body)
    except ValueError as fault:
        raise openai.no_json(str(fault)) from fault
    if not isinstance(fields, dict):
        raise openai.no_json("it must be an object")
    return fields


def _check_scope(fields: dict[str, Any]) -> None:
    """Log-probabilities of prompts are refused.

    vLLM computes them for all tokens of a prompt at once, which with adapters does not fit its
    batches: two such requests that meet have been seen to end the whole engine, for everybody.
    """
    if fields.get("prompt_logprobs") is not None:
        raise openai.unsupported("prompt_logprobs")
    if fields.get("echo") and fields.get("logprobs") is not None:
        raise openai.unsupported("echo", " together with 'logprobs'")


def _check_content(fields: dict[str, Any], content: str) -> None:
    value = fields.get(content)
    if value is None:
        raise openai.missing_field(content)
    if content == "messages" and not (isinstance(value, list) and value):
        raise openai.bad_field(content, "a list of messages with at least one")
    if content == "prompt" and not isinstance(value, str | list):
        raise openai.bad_field(content, "a string or a list")


def with_model(body: bytes, name: bytes) -> bytes:
    """The same request for another model name (one that needs no escaping)."""
    found = list(MODEL_KEY.finditer(body))
    if len(found) == 1 and ESCAPED_LETTER not in body:
        start, end = found[0].span(1)
        return b"%b%b%b" % (body[:start], name, body[end:])
    # Other objects have such a key too, or it is there twice: only a parser can tell. The last wins.
    fields = from_json(body)
    fields["model"] = name.decode()
    return json.dumps(fields, ensure_ascii=False).encode()


class NameInAnswer:
    """Puts the public name back into an answer, whole or in pieces that may be cut anywhere.

    With an `identity` the answer's id becomes ours, but for the prefix that tells its kind.
    """

    def __init__(self, engine_name: bytes, public: str, identity: bytes | None = None) -> None:
        quoted = json.dumps(public).encode()
        self._engine_name = engine_name
        self._public = quoted[1:-1]
        self._changes = [
            (b'"model":"%b"' % engine_name, b'"model":%b' % quoted),
            (b'"model": "%b"' % engine_name, b'"model": %b' % quoted),
        ]
        self._identity = identity
        self._held = b""

    def whole(self, body: bytes) -> bytes:
        if self._identity is not None:
            self._learn_id(body, self._identity)
        for old, new in self._changes:
            body = body.replace(old, new)
        return body

    def _learn_id(self, data: bytes, identity: bytes) -> bool:
        """Whether it is known now which id is to be replaced, or that none is."""
        found = ANSWER_ID.search(data, 0, ID_WITHIN_BYTES)
        if found is not None:
            ours = b'"id":"%b%b"' % (found[1], identity)
            self._changes.append((found[0], ours))
        elif len(data) < ID_WITHIN_BYTES and not data.endswith(b"\n"):
            return False
        self._identity = None
        return True

    def anywhere(self, body: bytes) -> bytes:
        """For error bodies, whose sentences name the model too."""
        return body.replace(self._engine_name, self._public)

    def piece(self, data: bytes) -> bytes:
        """The next piece of a stream; an end that may be the begin of the name waits for more."""
        if self._held:
            data = self._held + data
            self._held = b""
        if self._identity is not None and not self._learn_id(data, self._identity):
            self._held = data
            return b""
        data = self.whole(data)
        if not data.endswith(b"\n"):  # engines send whole lines; this is for the rare cut
            keep = self._cut(data)
            if keep:
                self._held = data[-keep:]
                data = data[:-keep]
        return data

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return self.whole(held)

    def _cut(self, data: bytes) -> int:
        """How many bytes at the end of `data` may be the begin of something to change."""
        return max(
            next(
                (k for k in range(min(len(old) - 1, len(data)), 0, -1) if data.endswith(old[:k])), 0
            )
            for old, _ in self._changes
        )


def usage_of(body: bytes) -> dict[str, int]:
    """Tokens by kind, as far as the answer (or a piece of a stream) says."""
    at = body.rfind(USAGE)
    if at < 0:
        return {}
    return {kind.decode(): int(count) for kind, count in TOKENS.findall(body, at)}
