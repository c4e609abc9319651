"""What gateway and agent say to each other beyond OpenAI's API."""

from typing import Final

# On a request: the name under which the engine knows the model, so that the agent need not parse.
ENGINE_NAME_HEADER: Final = b"x-trimtab-engine-name"
# On an answer: the engine has not begun with this request, so it may be sent elsewhere.
ELSEWHERE_HEADER: Final = b"x-trimtab-elsewhere"
# On an answer to a user: the version that gave it.
VERSION_HEADER: Final = b"x-trimtab-version"
# On a user's request: requests with the same value stay on one version of a model.
SESSION_HEADER: Final = b"x-session"

COMPLETIONS: Final = "/v1/completions"
CHAT_COMPLETIONS: Final = "/v1/chat/completions"
FEEDBACK: Final = "/v1/feedback"
# The field that a request must have besides the model.
CONTENT_FIELD: Final = {COMPLETIONS: "prompt", CHAT_COMPLETIONS: "messages"}

# Headers that go from the user to the engine. Everything else stays outside, keys above all.
FORWARDED: Final = frozenset(
    {b"content-type", b"accept", b"x-request-id", b"traceparent", b"tracestate"}
)
# Headers of one connection, or of a body whose length may change.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"server",
        b"date",
        ELSEWHERE_HEADER,
    }
)


def forwarded(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [item for item in headers if item[0] in FORWARDED]


def returned(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [item for item in headers if item[0] not in HOP_BY_HOP]
