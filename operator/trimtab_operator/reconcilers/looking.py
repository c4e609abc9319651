"""Asking Prometheus about the rollouts of a service, while there are any."""

import asyncio
from collections.abc import Mapping

from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.errors import MetricsError
from trimtab_operator.domain.inferenceservice.courses import asks
from trimtab_operator.domain.inferenceservice.looks import Ask, Heard
from trimtab_operator.reconcilers.ports import Metrics, World


async def looked(
    service: InferenceService, written: Mapping[str, str], world: World
) -> Mapping[str, Heard]:
    """What Prometheus says now, by model; an answer that is none comes back as trouble."""
    asked = dict(asks(service, written, world.clock.now()))
    heard = await asyncio.gather(*(_heard(each, world.metrics) for each in asked.values()))
    return dict(zip(asked, heard, strict=True))


async def _heard(asked: Ask, metrics: Metrics) -> Heard:
    try:
        series = tuple(await metrics.samples(asked.selector, asked.start, asked.end))
    except MetricsError as error:
        return Heard(asked.end, trouble=str(error))
    values: dict[str, float | None] = {}
    troubles = dict(asked.unreadable)
    for name, query in asked.queries.items():
        try:
            values[name] = await metrics.scalar(query, asked.end)
        except MetricsError as error:
            troubles[name] = str(error)
    return Heard(asked.end, series, values=values, troubles=troubles)
