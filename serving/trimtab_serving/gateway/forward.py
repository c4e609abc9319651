"""From a request to the answer of an engine: the one path for users and for probes.

Version first (by weight or session), then engine (least busy). Until an engine has begun to answer,
a failure only means that the next one is asked.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_serving import openai, wire
from trimtab_serving.bodies import Ask, NameInAnswer, with_model
from trimtab_serving.gateway.fleet import Engine, Fleet
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.gateway.routes import Route, by_preference, point_of, routes_of
from trimtab_serving.upstream import Broken, Connection, Headers, Unreachable

logger = logging.getLogger(__name__)

MOST_TRIES: Final = 4
EVENT_STREAM: Final = b"text/event-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as far as forwarding goes."""

    path: str
    ask: Ask
    headers: Headers
    session: bytes | None = None
    # Probes may name the version that they want to hear, whatever its weight.
    version: str | None = None
    # Gives the response an id of our own, once it is known which version answers.
    identify: Callable[[str], bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine answers; `body` is None when it comes in pieces from `connection`."""

    version: str
    digest: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | None
    names: NameInAnswer
    connection: Connection
    engine: Engine

    def close(self) -> None:
        self.engine.in_flight -= 1
        self.connection.close()


class Forwarder:
    """Knows the table's models and finds an engine for each request."""

    def __init__(
        self,
        fleet: Fleet,
        metrics: GatewayMetrics,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._chance = chance
        self._routes: dict[str, Route] = {}
        self._table: RoutingTable | None = None

    def update(self, table: RoutingTable) -> None:
        self._table = table
        self._routes = routes_of(table)
        self._metrics.keep({(m.name, v.version) for m in table.models for v in m.versions})

    @property
    def models(self) -> Sequence[str]:
        return list(self._routes)

    def knows(self, model: str) -> bool:
        return model in self._routes

    @property
    def routes(self) -> Mapping[str, Route]:
        return self._routes

    def route(self, model: str) -> Route | None:
        return self._routes.get(model)

    async def open(self, request: Request) -> Answer:
        """The answer of the engine that took the request; the caller must close it."""
        versions = self._versions(request)
        tried: set[str] = set()
        first_tried = ""
        for attempt in range(MOST_TRIES):
            choice = self._choose(versions, tried)
            if choice is None:
                break
            first_tried = first_tried or choice[0].version
            if attempt:
                self._metrics.count_retry()
            answer = await self._try(*choice, request, tried)
            if answer is not None:
                return answer
        fault = openai.no_engine(
            f"No engine can answer for the model `{request.ask.model}` right now."
        )
        fault.version = first_tried
        raise fault

    def _versions(self, request: Request) -> Sequence[RoutedVersion]:
        model = request.ask.model
        route = self._routes.get(model)
        if route is None:
            raise openai.unknown_model(model)
        if request.version is not None:
            return self._named(model, request.version)
        if not route.versions:
            raise openai.no_engine(f"No version of the model `{model}` takes requests right now.")
        if len(route.versions) == 1:
            return route.versions
        return by_preference(route, point_of(route, request.session, self._chance))

    def _named(self, model: str, version: str) -> Sequence[RoutedVersion]:
        models = self._table.models if self._table else []
        found = [v for m in models if m.name == model for v in m.versions if v.version == version]
        if not found:
            raise openai.unknown_model(f"{model} in version {version}")
        return found

    def _choose(
        self, versions: Sequence[RoutedVersion], tried: set[str]
    ) -> tuple[RoutedVersion, Engine, bytes] | None:
        for version in versions:
            found = self._fleet.pick(version.digest, tried)
            if found is not None:
                return version, *found
        return None

    async def _try(
        self, version: RoutedVersion, engine: Engine, name: bytes, request: Request, tried: set[str]
    ) -> Answer | None:
        """Ask one engine; None when it had not begun and another may be asked."""
        connection: Connection | None = None
        answer: Answer | None = None
        engine.in_flight += 1
        try:
            connection = await engine.upstream.post(
                request.path.encode(),
                (*request.headers, (wire.ENGINE_NAME_HEADER, name)),
                with_model(request.ask.body, name),
            )
            if connection.header(wire.ELSEWHERE_HEADER) is not None:
                await connection.read_all()
                tried.add(engine.holding(version.digest))
                return None
            answer = await _answer(version, engine, connection, name, request)
            return answer
        except Unreachable as fault:
            logger.warning("engine %s did not take a request: %s", engine.name, fault)
            self._fleet.suspect(engine)
            tried.add(engine.address)
            return None
        except Broken as fault:
            failure = openai.engine_failed(f"The engine failed while it answered: {fault}.")
            failure.version = version.version
            raise failure from fault
        finally:
            if answer is None:
                engine.in_flight -= 1
                if connection is not None:
                    connection.close()


async def _answer(
    version: RoutedVersion, engine: Engine, connection: Connection, name: bytes, request: Request
) -> Answer:
    is_good = connection.status < 400
    identity = request.identify(version.version) if request.identify and is_good else None
    names = NameInAnswer(name, request.ask.model, identity)
    body: bytes | None = None
    if not (connection.header(b"content-type") or b"").startswith(EVENT_STREAM):
        body = await connection.read_all()
        body = names.whole(body) if is_good else names.anywhere(body)
    return Answer(
        version=version.version,
        digest=version.digest,
        status=connection.status,
        headers=wire.returned(connection.headers),
        body=body,
        names=names,
        connection=connection,
        engine=engine,
    )
