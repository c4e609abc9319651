"""`python -m trimtab_operator history`: the decisions about an InferenceService as one HTML page.

Reads the API (by the pod's service account, or by kubeconfig), or what kubectl has written to a file; and Prometheus,
where it is told of one. Changes nothing.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from pydantic import ValidationError

from trimtab_api.v1alpha1 import Decision, FineTuneJob, InferenceService, ModelVersion
from trimtab_operator.adapters import past
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.prometheus import Prometheus
from trimtab_operator.adapters.recordings import recorded_values
from trimtab_operator.commandline import add_credentials, credentials
from trimtab_operator.domain.errors import ClusterError, MetricsError
from trimtab_operator.domain.history import courses
from trimtab_operator.domain.history.entries import Sources, concerned, entries
from trimtab_operator.domain.history.page import History, page
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.notes import COMPONENT, notes_of, stored_notes
from trimtab_operator.domain.manifests import Manifest, child_labels, get, name_of

EVENTS_LAST: Final = "Events are kept for an hour by most clusters. What is older is told by status, Decisions and versions alone."


class _Unusable(ValueError):
    """There is nothing to make a page of; the message says why."""


def main(arguments: Sequence[str]) -> int:
    """Gather, draw, write; returns the exit code."""
    given = parsed(arguments)
    try:
        text = asyncio.run(made(given))
        target = given.output or Path(f"{given.service}-history.html")
        target.write_text(text, encoding="utf-8")
    except (OSError, ValueError, ValidationError, yaml.YAMLError, ClusterError) as error:
        sys.stderr.write(f"no history of {given.service}: {error}\n")
        return 2
    sys.stdout.write(f"{target}\n")
    return 0


async def made(given: argparse.Namespace) -> str:
    """The page."""
    return page(await _gathered(given))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="trimtab_operator history", description=__doc__)
    parser.add_argument("service", help="name of the InferenceService")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--kubeconfig", help="without it the usual places are looked at")
    parser.add_argument(
        "--file",
        type=Path,
        help="instead of the API: what `kubectl get tis,tdc,mv,ftj,events,configmaps -o yaml` has written",
    )
    parser.add_argument("--prometheus", metavar="URL", help="for the plots over time")
    add_credentials(parser)
    parser.add_argument("--hours", type=float, default=24, help="how far back they go")
    parser.add_argument("--output", type=Path, help="default: SERVICE-history.html")
    return parser.parse_args(arguments)


async def _gathered(given: argparse.Namespace) -> History:
    objects, remarks = await _objects(given)
    sources = gathered(objects, given.service, given.namespace)
    now = SystemClock().now()
    drawn: courses.Courses = {}
    if given.prometheus:
        try:
            drawn = await _drawn(sources.service, given, now)
        except MetricsError as error:
            remarks.append(f"There are no plots over time: {error}")
    else:
        remarks.append(
            "There are no plots over time, because no Prometheus was asked: --prometheus URL"
        )
    return History(
        service=sources.service,
        made=now,
        entries=entries(sources),
        versions=tuple(sources.versions),
        courses=drawn,
        looks=_looks(sources.service, objects),
        remarks=(*remarks, EVENTS_LAST),
    )


async def _objects(given: argparse.Namespace) -> tuple[list[Manifest], list[str]]:
    if given.file:
        document = yaml.safe_load(given.file.read_bytes())
        if not isinstance(document, Mapping) or not isinstance(document.get("items"), list):
            raise _Unusable(f"{given.file} is no list of objects, as kubectl get -o yaml writes it")
        return [item for item in document["items"] if isinstance(item, dict)], []
    labels = child_labels(children.KIND, given.service, COMPONENT)
    notes = ",".join(f"{key}={value}" for key, value in labels.items())
    api = await Api.connect(given.kubeconfig)
    try:
        found = await past.found(api, given.namespace, given.service, notes)
    finally:
        await api.close()
    if found is None:
        raise _Unusable(f"there is no InferenceService of this name in namespace {given.namespace}")
    return found.objects, found.remarks


def gathered(objects: Iterable[Manifest], service: str, namespace: str) -> Sources:
    """What tells of the service, among the objects of any namespace."""
    mine = [o for o in objects if get(o, "metadata", "namespace") in {None, namespace}]
    named = (o for o in mine if o.get("kind") == "InferenceService" and name_of(o) == service)
    found = next(named, None)
    if found is None:
        raise _Unusable(f"there is no InferenceService of this name in namespace {namespace}")
    known = InferenceService.model_validate(found)
    return Sources(
        service=known,
        versions=concerned(known, _each(ModelVersion, mine)),
        decisions=_each(Decision, mine),
        jobs=_each(FineTuneJob, mine),
        events=[o for o in mine if o.get("kind") == "Event"],
    )


def _each(of: Any, objects: Iterable[Manifest]) -> list[Any]:  # noqa: ANN401 - a kind of ours
    return [of.model_validate(o) for o in objects if o.get("kind") == of.__name__]


def _looks(service: InferenceService, objects: Iterable[Manifest]) -> dict[str, str]:
    """How far the counters were read, by model."""
    mine = children.selector(service, COMPONENT).items()
    notes = (
        o
        for o in objects
        if o.get("kind") == "ConfigMap" and mine <= get(o, "metadata", "labels", default={}).items()
    )
    written, found = stored_notes(notes), {}
    for model in service.status.models:
        if model.rollout is None or model.name not in written:
            continue
        noted = notes_of(model.rollout, written[model.name])
        if noted.looked is None:
            continue
        moment = f"{datetime.fromtimestamp(noted.looked, UTC):%Y-%m-%d %H:%M:%S}"
        gateways = {s.instance for m in noted.evidence.metrics.values() for s in m.cursor.scrapes}
        told = f"counters of {len(gateways)} gateways, {noted.answered} requests of the candidate"
        found[model.name] = f"{moment}: {noted.trouble or told}"
    return found


async def _drawn(
    service: InferenceService, given: argparse.Namespace, now: datetime
) -> courses.Courses:
    span = timedelta(hours=given.hours)
    step = courses.step_of(span)
    async with aiohttp.ClientSession() as session:
        server = Prometheus(session, given.prometheus, credentials(given))
        return {
            course: courses.curves(await recorded_values(server, query, now - span, now, step))
            for course, query in courses.queries(service, step).items()
        }
