"""Keys that gateways find unusual: what is asked of Prometheus, and what status says of it.

Gateways judge, because they alone see each request; here it is only told, so that what nobody has
measured is Unknown and never calm.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import AbuseReason
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import InferenceServiceStatus
from trimtab_api.v1alpha1.traffic import MOST_UNUSUAL_KEYS, OnAbuse, UnusualKey, UnusualReason
from trimtab_operator.domain.conditions import condition, find, timestamp, with_condition
from trimtab_operator.domain.events import Event, about, transitions
from trimtab_operator.domain.finding import Answer
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.series import RawSeries

CONDITION: Final = "AbuseDetected"
UNUSUAL: Final = "trimtab_gateway_unusual_keys"
# Every gateway has this one, so that its absence says that nobody was asked.
KEYS: Final = "trimtab_gateway_api_keys"
EVERY: Final = timedelta(seconds=60)
# What was scraped within it counts as now: scrapes come every half minute at most.
WINDOW: Final = timedelta(seconds=90)


def selector(service: InferenceService) -> str:
    """What the service's own gateways say of keys."""
    own = children.name(service, names.GATEWAY)
    labels = {
        "__name__": f'=~"{UNUSUAL}|{KEYS}"',
        "namespace": f'="{service.metadata.namespace}"',
        "pod": f'=~"{own}-[a-z0-9]+-[a-z0-9]+"',
    }
    return "{" + ",".join(f"{label}{match}" for label, match in labels.items()) + "}"


def unusual(series: Sequence[RawSeries]) -> list[tuple[str, UnusualReason]]:
    """The keys that some gateway calls unusual, each reason once.

    A series that ended is one that its gateway has taken back at the scrape after.
    """
    last: dict[str, float] = {}
    for each in series:
        if each.name == KEYS and each.samples:
            pod = each.labels.get("pod", "")
            last[pod] = max(last.get(pod, 0.0), each.samples[-1].time)
    found = set()
    for each in series:
        is_current = each.samples and each.samples[-1].time >= last.get(
            each.labels.get("pod", ""), 0.0
        )
        if each.name != UNUSUAL or not is_current:
            continue
        key, reason = each.labels.get("key", ""), each.labels.get("reason", "")
        if key and reason in set(UnusualReason):
            found.add((key[:63], UnusualReason(reason)))
    return sorted(found)[:MOST_UNUSUAL_KEYS]


def is_measured(series: Sequence[RawSeries]) -> bool:
    """Whether any gateway was scraped."""
    return any(each.name == KEYS and each.samples for each in series)


def due_in(service: InferenceService, asked: datetime | None, now: datetime) -> timedelta:
    """How long until it is asked again; at once where status tells of another spec, or of nothing."""
    said = find(service.status.conditions, CONDITION)
    is_of_now = said is not None and said.observed_generation == service.metadata.generation
    if asked is None or not is_of_now or asked > now:
        return timedelta()
    return asked + EVERY - now


def as_before(service: InferenceService, status: InferenceServiceStatus) -> InferenceServiceStatus:
    """What was found when it was asked last."""
    return status.model_copy(update={"unusual_keys": list(service.status.unusual_keys)})


def without_abuse(status: InferenceServiceStatus) -> InferenceServiceStatus:
    """Nothing is looked at, and nothing said."""
    others = [c for c in status.conditions if c.type != CONDITION]
    return status.model_copy(update={"unusual_keys": [], "conditions": others})


def unmeasured(
    service: InferenceService, status: InferenceServiceStatus, reason: str, why: str, now: datetime
) -> tuple[InferenceServiceStatus, tuple[Event, ...]]:
    """Nobody could be asked; the keys stay as they were told last."""
    kept = list(service.status.unusual_keys)
    return _said(service, status, Answer(None, reason, why), kept, now)


def told(
    service: InferenceService,
    status: InferenceServiceStatus,
    found: Sequence[tuple[str, UnusualReason]],
    now: datetime,
) -> tuple[InferenceServiceStatus, tuple[Event, ...]]:
    """The status, and an Event for each key that is new among them."""
    before = {(k.key, k.reason): k.since for k in service.status.unusual_keys}
    keys = [
        UnusualKey(key=key, reason=reason, since=before.get((key, reason)) or timestamp(now))
        for key, reason in found
    ]
    if not keys:
        calm = Answer(False, AbuseReason.NO_UNUSUAL_KEY, "every key asks for what it used to")
        return _said(service, status, calm, keys, now)
    listed = "; ".join(_sentence(service, each) for each in keys)
    loud = Answer(True, AbuseReason.UNUSUAL_KEY, listed)
    status, _ = _said(service, status, loud, keys, now)
    fresh = [each for each in keys if (each.key, each.reason) not in before]
    return status, tuple(_event(service, each) for each in fresh)


def _said(
    service: InferenceService,
    status: InferenceServiceStatus,
    answer: Answer,
    keys: list[UnusualKey],
    now: datetime,
) -> tuple[InferenceServiceStatus, tuple[Event, ...]]:
    said = condition(
        CONDITION,
        answer.holds,
        answer.reason,
        answer.message,
        generation=service.metadata.generation,
        now=now,
    )
    events = transitions(children.KIND, service, [said])
    conditions = with_condition(status.conditions, said)
    updated = status.model_copy(update={"unusual_keys": keys, "conditions": conditions})
    return updated, tuple(events)


def _event(service: InferenceService, key: UnusualKey) -> Event:
    return about(
        children.KIND,
        service,
        AbuseReason.UNUSUAL_KEY,
        _sentence(service, key),
        warning=True,
        occasion=f"{key.key}/{key.reason}/{key.since}",
    )


def _sentence(service: InferenceService, key: UnusualKey) -> str:
    abuse = service.spec.gateway.abuse
    is_slowed = abuse is not None and abuse.on_abuse is OnAbuse.THROTTLE
    what = (
        "asks for far more than it used to"
        if key.reason is UnusualReason.REQUESTS
        else "is declined by most answers"
    )
    follows = ", and is slowed" if is_slowed else ""
    return f"key {key.key} {what} since {key.since}{follows}"
