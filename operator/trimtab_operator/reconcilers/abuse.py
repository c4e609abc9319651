"""Unusual keys of an InferenceService: ask Prometheus what the gateways have found, and say so."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from trimtab_api.reasons import AbuseReason
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import InferenceServiceStatus
from trimtab_operator.domain.errors import MetricsError
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.inferenceservice import abuse as domain
from trimtab_operator.reconcilers.ports import Key, World


@dataclass(frozen=True)
class Noticed:
    """What is to be said, and when to look again; None where nobody asks for it."""

    status: InferenceServiceStatus
    events: tuple[Event, ...] = ()
    again_after: timedelta | None = None
    # When Prometheus was asked; None where that was not due.
    asked: datetime | None = None


async def look(service: InferenceService, status: InferenceServiceStatus, world: World) -> Noticed:
    """The status with the keys that are unusual now."""
    if service.spec.gateway.abuse is None:
        return Noticed(domain.without_abuse(status))
    now = world.clock.now()
    left = domain.due_in(service, world.keys_asked.get(service.key), now)
    if left > timedelta():
        return Noticed(domain.as_before(service, status), again_after=left)
    selector = domain.selector(service)
    try:
        series = await world.metrics.samples(selector, now - domain.WINDOW, now)
    except MetricsError as error:
        has_none = not world.settings.prometheus.url
        reason = AbuseReason.NO_PROMETHEUS if has_none else AbuseReason.PROMETHEUS_UNAVAILABLE
        said = domain.unmeasured(service, status, reason, str(error), now)
    else:
        if domain.is_measured(series):
            said = domain.told(service, status, domain.unusual(series), now)
        else:
            why = f"Prometheus has no series {selector}: does it scrape the gateways?"
            said = domain.unmeasured(service, status, AbuseReason.NO_SERIES, why, now)
    return Noticed(*said, domain.EVERY, asked=now)


def remember(key: Key, noticed: Noticed, world: World) -> None:
    """Status has what was found; until it is due again nobody is asked."""
    if noticed.asked is not None:
        world.keys_asked[key] = noticed.asked


def forget(key: Key, world: World) -> None:
    """The service is gone."""
    world.keys_asked.pop(key, None)
