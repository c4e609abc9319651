"""POST /v1/feedback: what a caller says about a response that this service gave him.

The response's id proves whose it is and which version gave it, so nothing is remembered of
responses. A rating is counted once; what somebody changes his mind to goes into the files alone.
"""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic_core import from_json
from starlette.types import Receive, Scope, Send

from trimtab_serving import asgi, openai, wire
from trimtab_serving.gateway.capture import Capture
from trimtab_serving.gateway.kept import Opinion
from trimtab_serving.gateway.openings import Openings
from trimtab_serving.gateway.responseids import ResponseId, ResponseIds
from trimtab_serving.gateway.signalmetrics import Pair, SignalMetrics
from trimtab_serving.gateway.signals import Signal
from trimtab_serving.gateway.watching import Tags
from trimtab_serving.keys import ApiKeys, Caller
from trimtab_serving.openai import ApiError

MOST_BYTES: Final = 128 * 1024
MOST_CORRECTION: Final = 16_384
MOST_LABELS: Final = 16
RATINGS: Final = ("positive", "negative")
# Responses whose rating was counted; more than anybody may rate in an hour.
MOST_COUNTED: Final = 65_536
MOST_CALLERS: Final = 4096
Value = TypeVar("Value")
_LABEL: Final = re.compile(r"[\w][\w .:/-]{0,63}")
_FIELDS: Final = frozenset({"id", "rating", "correction", "labels"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much feedback a caller may send to one gateway, and for how long after the response."""

    per_minute: int
    within_seconds: int


class Budget:
    """A bucket for each caller that fills steadily and holds the feedback of a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: dict[bytes, tuple[float, float]] = {}

    def take(self, caller: bytes) -> bool:
        now = self._clock()
        left, at = self._left.get(caller, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
        if left < 1:
            return False
        if len(self._left) >= MOST_CALLERS and caller not in self._left:
            self._left.clear()  # keys that are no more
        self._left[caller] = (left - 1, now)
        return True


class Feedback:
    """ASGI application of the one path."""

    def __init__(
        self,
        keys: ApiKeys,
        ids: ResponseIds,
        tags: Tags,
        metrics: SignalMetrics,
        capture: Capture | None,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._ids = ids
        self._tags = tags
        self._metrics = metrics
        self._capture = capture
        self._limits = limits
        self._budget = Budget(limits.per_minute, clock)
        self._clock = clock
        # Ratings of one caller are alike, as openings of one are: a few speak for him.
        self._sample = Openings()
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._said: OrderedDict[str, bytes] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "POST":
                raise openai.wrong_method(scope["method"], wire.FEEDBACK, "POST")
            caller = self._keys.check(asgi.header(scope, b"authorization"))
            if not self._budget.take(caller.name):
                raise _flood(self._limits.per_minute)
            body = await asgi.read_body(scope, receive, MOST_BYTES)
            answer = json.dumps(self._take(caller, body)).encode()
        except ApiError as refusal:
            self._metrics.feedback_refused.labels(refusal.code or "invalid").inc()
            await asgi.answer(send, refusal.status, refusal.wire_headers(), refusal.body())
        except asgi.BodyTooLarge:
            self._metrics.feedback_refused.labels("request_too_large").inc()
            too_large = openai.body_too_large(MOST_BYTES)
            await asgi.answer(send, too_large.status, too_large.wire_headers(), too_large.body())
        except asgi.BodyIncomplete:
            return
        else:
            await asgi.answer(send, 200, openai.JSON, answer)

    def _take(self, caller: Caller, body: bytes) -> dict[str, object]:
        text, opinion = parse(body)
        response = self._ids.read(caller, text)
        if response is None:
            raise _unknown()
        if self._ids.age_seconds(response) > self._limits.within_seconds:
            raise _too_late(self._limits.within_seconds)
        pair = self._tags.pair(response.version_tag)
        if pair is None:
            raise _version_gone()
        is_kept = self._keep(response, pair, opinion)
        if opinion.rating is not None:
            self._count(caller, response, pair, opinion.rating)
        elif not is_kept:
            raise _not_kept()
        model, version = pair
        said: dict[str, object] = {"object": "feedback", "id": text, "model": model}
        return {**said, "version": version, "rating": opinion.rating, "kept": is_kept}

    def _keep(self, response: ResponseId, pair: tuple[str, str], opinion: Opinion) -> bool:
        if self._capture is None or not response.is_kept:
            return False
        said = _fingerprint(opinion)
        if self._said.get(response.nonce) == said:
            return True
        if not self._capture.feedback(response.nonce, pair, opinion):
            return False
        _remember(self._said, response.nonce, said)
        return True

    def _count(self, caller: Caller, response: ResponseId, pair: Pair, rating: str) -> None:
        if response.nonce in self._counted:
            return
        _remember(self._counted, response.nonce, None)
        self._metrics.feedback.add(pair, rating)
        if self._sample.admit(caller.name, None, self._clock()):
            self._metrics.signal.add(pair, Signal.NEGATIVE_FEEDBACK, rating)


def parse(body: bytes) -> tuple[str, Opinion]:
    """The response's id and what is said about it."""
    try:
        fields = from_json(body)
    except ValueError as fault:
        raise openai.no_json(str(fault)) from fault
    if not isinstance(fields, dict):
        raise openai.no_json("it must be an object")
    if unknown := sorted(fields.keys() - _FIELDS):
        raise openai.unsupported(unknown[0][:64])
    if fields.get("id") is None:
        raise openai.missing_field("id")
    if not isinstance(fields["id"], str):
        raise openai.bad_field("id", "the id of a response, a string")
    opinion = Opinion(
        rating=_rating(fields.get("rating")),
        correction=_correction(fields.get("correction")),
        labels=_labels(fields.get("labels")),
    )
    if opinion == Opinion():
        raise openai.missing_field("rating")
    return fields["id"], opinion


def _rating(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in RATINGS:
        raise openai.bad_field("rating", " or ".join(f"'{each}'" for each in RATINGS))
    return value


def _correction(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_CORRECTION:
        raise openai.bad_field(
            "correction",
            f"the answer as it should be, a string of 1 to {MOST_CORRECTION} characters",
        )
    return value


def _labels(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_LABELS:
        raise openai.bad_field("labels", f"a list of at most {MOST_LABELS} strings")
    if not all(isinstance(each, str) and _LABEL.fullmatch(each) for each in value):
        raise openai.bad_field(
            "labels",
            "strings of 1 to 64 letters, digits, blanks and . : / - that begin with a letter or digit",
        )
    return tuple(sorted(set(value)))


def _remember(known: OrderedDict[str, Value], key: str, value: Value) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > MOST_COUNTED:
        known.popitem(last=False)


def _fingerprint(opinion: Opinion) -> bytes:
    return hashlib.blake2b(repr(opinion).encode(), digest_size=16).digest()


def _unknown() -> ApiError:
    """One answer for what never was and for what another key was given: neither is anybody's business."""
    return ApiError(
        404,
        "No response with this id was given to this API key by this service. Send the 'id' of the answer as it came, "
        "with the key that the request was made with.",
        param="id",
        code="response_not_found",
    )


def _version_gone() -> ApiError:
    return ApiError(
        404,
        "The version that gave this response is no longer served here, so that feedback about it has no use.",
        param="id",
        code="version_not_served",
    )


def _too_late(seconds: int) -> ApiError:
    return ApiError(
        410,
        f"This response is older than the {seconds} s within which feedback is taken.",
        param="id",
        code="feedback_too_late",
    )


def _not_kept() -> ApiError:
    return ApiError(
        409,
        "This exchange was not kept, so that a correction or labels have nothing to stand beside: either this service "
        "keeps none, or this one was not among those that it chose, or there is no room now. A 'rating' is taken all "
        "the same.",
        param="correction",
        code="response_not_kept",
    )


def _flood(per_minute: int) -> ApiError:
    return ApiError(
        429,
        f"Rate limit reached: at most {per_minute} feedback requests a minute are taken from one API key.",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        headers=[(b"retry-after", b"%d" % max(1, round(60 / per_minute)))],
    )
