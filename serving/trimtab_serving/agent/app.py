"""The agent's own API: what is loaded, health, readiness, metrics."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import FastAPI, Query, Response

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_serving.agent.board import Board
from trimtab_serving.agent.engine import EngineClient, EngineRefused, EngineUnavailable
from trimtab_serving.agent.failure import LoadFailure
from trimtab_serving.agent.metrics import AgentMetrics

OWN_PATHS: Final = frozenset({"/adapters", "/healthz", "/readyz", "/metrics"})
PROFILES: Final = "/profile/"
LONGEST_WAIT_SECONDS: Final = 60.0
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"


def agent_app(
    board: Board,
    engine: EngineClient,
    metrics: AgentMetrics,
    unready: Callable[[], str | None],
    profile: Callable[[str], Awaitable[ReferenceProfile | None]],
) -> FastAPI:
    """`unready` says why the engine cannot take requests, or nothing; `profile` finds one by digest."""
    app = FastAPI(title="Trimtab agent", openapi_url=None)

    @app.get("/adapters")
    async def adapters(
        after: int = 0, wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_SECONDS)] = 0.0
    ) -> Response:
        report = await board.after(after, wait)
        body = report.model_dump_json(by_alias=True, exclude_none=True)
        return Response(body, media_type="application/json")

    @app.get(f"{PROFILES}{{digest}}")
    async def reference_profile(digest: str) -> Response:
        try:
            found = await profile(digest)
        except LoadFailure as failure:
            return Response(failure.message, status_code=503)
        if found is None:
            return Response("there is no profile of this version", status_code=404)
        return Response(found.model_dump_json(by_alias=True), media_type="application/json")

    @app.get("/healthz")
    async def health() -> Response:
        return Response("ok")

    @app.get("/readyz")
    async def readiness() -> Response:
        reason = unready()
        return Response(reason or "ok", status_code=503 if reason else 200)

    @app.get("/metrics")
    async def exposition() -> Response:
        try:
            theirs = await engine.metrics()
        except (EngineUnavailable, EngineRefused):
            theirs = b""  # an engine that is down has no metrics; that it is down is one of ours
        return Response(theirs + metrics.exposition(), headers={"content-type": EXPOSITION})

    return app
