"""`python -m trimtab_operator replay-rollout`: what a rollout's policy would have done with recorded traffic.

Takes an InferenceService, or its rollout alone, and what Prometheus has recorded. Needs no cluster and changes
nothing. Requests went where they went: the candidate's share is the recording's at every step.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import yaml
from pydantic import ValidationError

from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.common import ObjectMeta
from trimtab_api.v1alpha1.inferenceservice import (
    InferenceServiceSpec,
    ServedBase,
    ServedModel,
    VersionSelector,
)
from trimtab_api.v1alpha1.rollout import Rollout
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.prometheus import Prometheus
from trimtab_operator.adapters.recordings import recorded, recorded_values
from trimtab_operator.commandline import add_credentials, credentials
from trimtab_operator.domain import replay as recordings
from trimtab_operator.domain import rolloutreplay
from trimtab_operator.domain.errors import MetricsError
from trimtab_operator.domain.inferenceservice import looks, measures
from trimtab_operator.domain.inferenceservice.pools import named_models
from trimtab_operator.domain.rolloutplot import picture
from trimtab_operator.domain.rolloutreplay import Pair, Recording, Replay
from trimtab_operator.domain.series import RawSeries


class _Unusable(ValueError):
    """What was given is not what is needed; the message says what is."""


@dataclass(frozen=True)
class _Subject:
    """A model with a rollout, and the service that it is of."""

    service: InferenceService
    model: ServedModel


def main(arguments: Sequence[str]) -> int:
    """Read, replay, tell, draw; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        subjects = _subjects(yaml.safe_load(given.policy.read_bytes()), given)
        found = asyncio.run(_replayed(subjects, given))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ValidationError,
        yaml.YAMLError,
        MetricsError,
    ) as error:
        sys.stderr.write(f"nothing can be replayed: {error}\n")
        return 2
    if not found:
        names = ", ".join(each.model.name for each in subjects)
        sys.stderr.write(
            f"the recording has no version of {names} that came while another one answered; "
            "say which two are meant by --stable and --candidate\n"
        )
        return 1
    for each in found:
        sys.stdout.writelines(f"{line}\n" for line in rolloutreplay.lines(each))
    if given.plot:
        given.plot.write_text(picture(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trimtab_operator replay-rollout", description=__doc__)
    parser.add_argument(
        "policy",
        type=Path,
        help="an InferenceService, or what stands under `rollout` of a model, as YAML or JSON",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--file",
        type=Path,
        help='an answer of Prometheus\'s /api/v1/query to {__name__=~"trimtab_gateway_.*",model="…"}[6h]',
    )
    source.add_argument("--server", help="a Prometheus, for example http://127.0.0.1:9090")
    add_credentials(parser)
    parser.add_argument("--hours", type=float, default=6, help="with --server: how far back")
    parser.add_argument("--model", help="this model alone; needed with a rollout alone")
    parser.add_argument("--namespace", help="where the policy does not say it")
    parser.add_argument("--service", help="the service's name, where the policy does not say it")
    parser.add_argument("--stable", help="with --candidate: the version to compare with")
    parser.add_argument("--candidate", help="with --stable: the version that was new")
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="with --file: an answer of /api/v1/query_range to the query of this name",
    )
    parser.add_argument("--plot", type=Path, help="where to draw it, as SVG")
    return parser


def _subjects(document: object, given: argparse.Namespace) -> list[_Subject]:
    if not isinstance(document, Mapping):
        raise _Unusable(f"{given.policy} holds no InferenceService and no rollout")
    if bool(given.stable) != bool(given.candidate):
        raise _Unusable("--stable and --candidate go together; give both, or none")
    if "kind" in document:
        return _of_service(document, given)
    known = {field.alias for field in Rollout.model_fields.values()}
    if unknown := sorted(str(key) for key in document if key not in known):
        raise _Unusable(f"{given.policy}: a rollout has no {', '.join(unknown)}")
    if not given.model:
        raise _Unusable(f"{given.policy} holds a rollout alone; say of which model by --model")
    if given.server and not given.service:
        raise _Unusable(f"{given.policy} holds a rollout alone; say of which service by --service")
    # Of the service nothing else is asked than what it is called.
    meta = ObjectMeta(name=given.service or "service", namespace=given.namespace or "default")
    model = ServedModel(
        name=given.model,
        version=VersionSelector(latest_of=given.model),
        rollout=Rollout.model_validate(document),
    )
    spec = InferenceServiceSpec(base_model=ServedBase(name="base"), models=[model])
    return [_Subject(InferenceService(metadata=meta, spec=spec), model)]


def _of_service(document: Mapping[str, object], given: argparse.Namespace) -> list[_Subject]:
    if document["kind"] != "InferenceService":
        raise _Unusable(f"{given.policy} holds a {document['kind']}, no InferenceService")
    service = InferenceService.model_validate(document)
    namespace = given.namespace or service.metadata.namespace or "default"
    meta = service.metadata.model_copy(update={"namespace": namespace})
    service = service.model_copy(update={"metadata": meta})
    found = [
        model
        for model in named_models(service)
        if model.rollout is not None and given.model in (None, model.name)
    ]
    if not found:
        wanted = f"model {given.model}" if given.model else "model"
        raise _Unusable(f"{service.metadata.name} has no {wanted} with a rollout")
    return [_Subject(service, model) for model in found]


async def _replayed(subjects: Sequence[_Subject], given: argparse.Namespace) -> list[Replay]:
    if given.file:
        series = recordings.recorded(json.loads(given.file.read_bytes()))
        values = dict(_recorded_query(each) for each in given.query)
        return [
            rolloutreplay.replay(each.service, each.model, both, Recording(mine, values))
            for each in subjects
            for mine in (_of_model(series, each.model.name),)
            for both in _pairs(mine, given)
        ]
    async with aiohttp.ClientSession() as session:
        server = Prometheus(session, given.server, credentials(given))
        return [found for each in subjects for found in await _asked(server, each, given)]


async def _asked(server: Prometheus, of: _Subject, given: argparse.Namespace) -> list[Replay]:
    end = SystemClock().now()
    metrics = of.model.rollout.analysis.metrics if of.model.rollout else ()
    selector = measures.selector_of_all(of.service, of.model.name, metrics)
    series = await recorded(server, selector, end - timedelta(hours=given.hours), end)
    found = []
    for both in _pairs(series, given):
        values = {
            name: _one(
                name, await recorded_values(server, query, both.began, end, looks.LOOK_EVERY)
            )
            for name, query in rolloutreplay.queries(of.service, of.model, both).items()
        }
        recording = Recording(series, values)
        found.append(rolloutreplay.replay(of.service, of.model, both, recording))
    return found


def _pairs(series: Sequence[RawSeries], given: argparse.Namespace) -> list[Pair]:
    if given.stable:
        return [rolloutreplay.pair(series, given.stable, given.candidate)]
    return rolloutreplay.pairs(series)


def _of_model(series: Sequence[RawSeries], model: str) -> tuple[RawSeries, ...]:
    return tuple(one for one in series if one.labels.get("model") == model)


def _recorded_query(text: str) -> tuple[str, RawSeries]:
    name, is_given, file = text.partition("=")
    if not is_given:
        raise _Unusable(f"--query {text}: NAME=FILE is needed")
    return name, _one(name, recordings.recorded(json.loads(Path(file).read_bytes())))


def _one(name: str, found: Sequence[RawSeries]) -> RawSeries:
    if len(found) > 1:
        raise _Unusable(
            f"query {name} gives {len(found)} series; one is needed: aggregate them, by sum() for example"
        )
    return found[0] if found else RawSeries({})
