"""Unusual keys of an InferenceService: ask Prometheus what the gateways have found, and say so."""

from dataclasses import dataclass
from datetime import timedelta

from trimtab_api.reasons import AbuseReason
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import InferenceServiceStatus
from trimtab_operator.domain.errors import MetricsError
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.inferenceservice import abuse as domain
from trimtab_operator.reconcilers.ports import World


@dataclass(frozen=True)
class Noticed:
    """What is to be said, and when to look again; None where nobody asks for it."""

    status: InferenceServiceStatus
    events: tuple[Event, ...] = ()
    again_after: timedelta | None = None


async def look(service: InferenceService, status: InferenceServiceStatus, world: World) -> Noticed:
    """The status with the keys that are unusual now."""
    if service.spec.gateway.abuse is None:
        return Noticed(domain.without_abuse(status))
    now = world.clock.now()
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
    return Noticed(*said, domain.EVERY)
