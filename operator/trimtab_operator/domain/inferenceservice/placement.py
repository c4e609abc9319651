"""Where requests go, and which engines there are for that: the table and what it takes, decided together.

table of before --> present base --> another base? --> each name's turn --> new table --> engines
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trimtab_api.routing import RoutingTable
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.pools import BaseChange, RoomVerdict
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.basechange import Considered, Seen, considered
from trimtab_operator.domain.inferenceservice.companions import with_bases
from trimtab_operator.domain.inferenceservice.consent import Consent
from trimtab_operator.domain.inferenceservice.courses import (
    Surroundings,
    Turned,
    begun,
    record_of,
    turns,
    under_way,
)
from trimtab_operator.domain.inferenceservice.loads import EnginePod
from trimtab_operator.domain.inferenceservice.notes import stored_notes
from trimtab_operator.domain.inferenceservice.observed import Observed
from trimtab_operator.domain.inferenceservice.pools import (
    Pool,
    base_entry,
    engine_pods,
    known_pools,
    present_base,
    tables,
    wanted_pools,
)
from trimtab_operator.domain.inferenceservice.recall import recalled
from trimtab_operator.domain.inferenceservice.replacement import guarded, remembered
from trimtab_operator.domain.inferenceservice.routes import Base, Routing
from trimtab_operator.domain.inferenceservice.routing import route, with_base
from trimtab_operator.settings import Settings


@dataclass(frozen=True)
class Placed:
    """Each name's turn, the tables that follow from them, and the engines that follow from those."""

    turned: dict[str, Turned]
    routing: Routing
    base: Base
    pools: tuple[Pool, ...]
    tables: Mapping[str, RoutingTable]
    ruling: BaseChange | None
    again_after: timedelta | None


def placed(observed: Observed, found: Base, settings: Settings, now: datetime) -> Placed:
    """Decide the table and the engines. Same inputs, same answer."""
    service = observed.service
    written = with_bases(children.read_table(observed.routing))
    present = present_base(service, found, written, observed.versions)
    known = known_pools(service, present, observed.pods.engine_deployments)
    engines = engine_pods(observed.pods.engines, observed.reports, known)
    previous = written or with_bases(recalled(service, observed.versions, engines))
    turned = _turned(observed, present, engines, previous, now)
    seen = Seen(
        base=present,
        previous=previous,
        versions=observed.versions,
        pools=known,
        pods=observed.pods.engines,
        deployments=observed.pods.engine_deployments,
        engines=engines,
        consent=Consent.of(observed.policy),
        turned=turned,
    )
    change = considered(service, seen, now)
    turned, routing = _routed(observed, seen, change, settings, now)
    if observed.base is not None and change.change is None:
        routing = with_base(routing, observed.base, observed.policy)
    record = record_of(turned, service.spec.base_model.name)
    ruling = _standing(service, change.ruling, routing.table) or remembered(
        service, routing.table, record
    )
    makes_room = ruling is not None and ruling.verdict is RoomVerdict.REPLACE
    alone = ruling.digest if ruling is not None and makes_room else None
    pools = wanted_pools(service, routing.table, known, alone)
    return Placed(
        turned,
        routing,
        base=present_base(service, found, routing.table, observed.versions),
        pools=pools,
        tables=tables(service, routing.table, pools, engines),
        ruling=ruling,
        again_after=change.again_after,
    )


def _turned(
    observed: Observed,
    base: Base,
    engines: Sequence[EnginePod],
    previous: RoutingTable | None,
    now: datetime,
) -> dict[str, Turned]:
    """Each name's turn."""
    around = Surroundings(
        versions=observed.versions,
        engines=engines,
        previous=previous if previous and previous.base_digest == base.digest else None,
        consent=Consent.of(observed.policy),
        base=base.digest,
        decisions=observed.decisions,
        isolations=observed.isolations,
        notes=stored_notes(observed.evidence),
        heard=observed.heard,
    )
    return turns(observed.service, around, now)


def _routed(
    observed: Observed, seen: Seen, change: Considered, settings: Settings, now: datetime
) -> tuple[dict[str, Turned], Routing]:
    """The table that follows from each name's turn, and the turns with the rollouts that begin with it."""
    service, turned = observed.service, dict(seen.turned)

    def routing() -> Routing:
        return route(
            service,
            seen.base,
            observed.versions,
            seen.engines,
            seen.previous,
            plain_http=settings.registry.plain_http,
            policy=observed.policy,
            directions={name: each.direction for name, each in turned.items()},
            change=change.change,
        )

    found = routing()
    waiting = {r.name: r.begins for r in found.models if r.begins is not None}
    if waiting:
        with_base = change.change.companions if change.change else ()
        for name, pair in waiting.items():
            is_base = name == service.spec.base_model.name
            together = with_base if is_base else ()
            turned[name] = begun(service, turned[name], pair, now, together)
        found = routing()
    name = service.spec.base_model.name
    record = record_of(turned, name)
    status = guarded(service, change.ruling, change.change, seen.base, found.table, record, now)
    if status is not None:
        turned[name] = under_way(turned[name], status)
    models = (
        replace(r, record=turned[r.name].record) if r.name in turned else r for r in found.models
    )
    return turned, replace(found, models=tuple(models))


def _standing(
    service: InferenceService, ruling: BaseChange | None, table: RoutingTable
) -> BaseChange | None:
    """No engines make room for a base that is not in the table: it has turned out to be unfit."""
    if ruling is None or ruling.verdict is RoomVerdict.REFUSE:
        return ruling
    entry = base_entry(service, table)
    is_there = any(v.digest == ruling.digest for v in (entry.versions if entry else []))
    return ruling if is_there else None
