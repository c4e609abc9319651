"""Decides of each request, when it comes, what it will be looked at for, and hands it on at its end.

What runs here runs on the path of requests: look-ups and hashes, and nothing that reads a text.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from trimtab_api.routing import RoutingTable
from trimtab_serving.bodies import Ask
from trimtab_serving.gateway.exchange import Exchange, Heard
from trimtab_serving.gateway.observer import Observer
from trimtab_serving.gateway.openings import Openings, is_opening
from trimtab_serving.gateway.responseids import ResponseId, ResponseIds, version_tag
from trimtab_serving.gateway.routes import Route
from trimtab_serving.gateway.signalmetrics import Pair, SignalMetrics
from trimtab_serving.gateway.units import Units
from trimtab_serving.keys import Caller

# Versions that have left the table are still rated for a while.
MOST_TAGS: Final = 4096
OK: Final = 200
CLIENT_GONE: Final = 499  # as nginx and others count it: the client closed before it was answered


@dataclass(slots=True)
class Watched:
    """One request, and what it was chosen for when it came."""

    ask: Ask
    caller: Caller
    is_unit: bool
    is_opening: bool
    is_kept: bool
    response: ResponseId | None = None
    heard: Heard | None = None
    body: bytes | None = None
    digest: str = ""
    first_token_seconds: float | None = None
    token_seconds: float | None = None

    def hear(self) -> Heard:
        """What takes the pieces of a stream."""
        self.heard = Heard(needs_all=self.is_opening or self.is_kept)
        return self.heard


class Tags:
    """Which version an id of a response means."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[bytes, Pair] = OrderedDict()
        self._tags: dict[Pair, bytes] = {}

    def follow(self, table: RoutingTable) -> None:
        for pair in [(m.name, v.version) for m in table.models for v in m.versions]:
            tag = self._tags[pair] = self._tags.get(pair) or version_tag(*pair)
            self._pairs[tag] = pair
            self._pairs.move_to_end(tag)
        while len(self._pairs) > MOST_TAGS:
            _, pair = self._pairs.popitem(last=False)
            del self._tags[pair]

    def of(self, pair: Pair) -> bytes:
        return self._tags.get(pair) or version_tag(*pair)

    def pair(self, tag: bytes) -> Pair | None:
        return self._pairs.get(tag)


class Watching:
    """What a gateway knows of its callers' requests, all of it bounded."""

    def __init__(
        self,
        metrics: SignalMetrics,
        observer: Observer,
        clock: Callable[[], float],
        *,
        ids: ResponseIds | None = None,
        is_chosen: Callable[[], bool] = lambda: False,
    ) -> None:
        self.tags = Tags()
        self.units = Units()
        self._metrics = metrics
        self._observer = observer
        self._clock = clock
        self._ids = ids
        self._is_chosen = is_chosen
        self._openings = Openings()

    def follow(self, table: RoutingTable, routes: Mapping[str, Route]) -> None:
        self.tags.follow(table)
        self.units.follow(routes)

    def begin(
        self, ask: Ask, route: Route | None, caller: Caller, session: bytes | None
    ) -> Watched | None:
        """A request for a model of the table; nothing is remembered of others."""
        if route is None:
            return None
        now = self._clock()
        return Watched(
            ask=ask,
            caller=caller,
            is_unit=self.units.is_unit(route, session, now),
            is_opening=is_opening(ask.content) and self._openings.admit(caller.name, session, now),
            is_kept=self._is_chosen(),
        )

    def identify(self, watched: Watched, version: str) -> bytes | None:
        """The letters of the response's id, where ids are given."""
        if self._ids is None:
            return None
        tag = self.tags.of((watched.ask.model, version))
        made = self._ids.make(watched.caller, tag, is_kept=watched.is_kept)
        if made is None:
            return None
        watched.response, letters = made
        return letters

    def end(self, watched: Watched, version: str, code: int) -> None:
        """Count what can be counted at once, and leave the rest to the observer."""
        pair = (watched.ask.model, version)
        if watched.is_unit and code != CLIENT_GONE:
            self._metrics.units.add(pair, str(code))
            if watched.first_token_seconds is not None:
                self._metrics.unit_first_token.observe(pair, watched.first_token_seconds)
            if watched.token_seconds is not None and code == OK:
                self._metrics.unit_token.observe(pair, watched.token_seconds)
        if code != OK or (watched.body is None and watched.heard is None):
            return
        is_kept = watched.is_kept and watched.response is not None
        needs_content = watched.is_opening or is_kept
        self._observer.offer(
            Exchange(
                model=pair[0],
                version=version,
                digest=watched.digest,
                content=watched.ask.content if needs_content else None,
                request_bytes=len(watched.ask.body) if needs_content else 0,
                is_unit=watched.is_unit,
                is_opening=watched.is_opening,
                caller=watched.caller.name,
                nonce=watched.response.nonce if is_kept and watched.response else None,
                body=watched.body,
                heard=watched.heard,
            )
        )
