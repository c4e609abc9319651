"""The admin port: metrics, health, readiness, and probes that go the way of real requests.

Probes are neither counted nor limited: they tell whether the path works, and must not look like
users to whoever judges a version by its numbers.
"""

import asyncio
import json
from collections.abc import Callable

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from trimtab_api.routing import ProbeAnswer
from trimtab_serving import openai, wire
from trimtab_serving.bodies import Ask
from trimtab_serving.gateway.forward import Forwarder, Request
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.openai import ApiError

PROBE_SECONDS = 30.0


def admin_app(
    forwarder: Forwarder, metrics: GatewayMetrics, unready: Callable[[], str | None]
) -> FastAPI:
    """`unready` says why no requests should be sent here, or nothing."""
    app = FastAPI(title="Trimtab gateway", openapi_url=None)

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def health() -> Response:
        return Response("ok")

    @app.get("/readyz")
    async def readiness() -> Response:
        reason = unready()
        return Response(reason or "ok", status_code=503 if reason else 200)

    @app.get("/probe/{model:path}")
    async def probe(model: str, version: str | None = None) -> Response:
        answer = await ask_for_one_token(forwarder, model, version)
        return Response(
            answer.model_dump_json(by_alias=True, exclude_none=True),
            status_code=200 if answer.ok else 503,
            media_type="application/json",
        )

    return app


async def ask_for_one_token(
    forwarder: Forwarder, model: str, version: str | None = None
) -> ProbeAnswer:
    """A real request for one token, through the code that serves users."""
    body = json.dumps({"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}).encode()
    ask = Ask(model=model, stream=False, user=None, body=body)
    request = Request(wire.COMPLETIONS, ask, openai.JSON, version=version)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            answer = await forwarder.open(request)
    except ApiError as refusal:
        return ProbeAnswer(model=model, ok=False, message=refusal.message)
    except TimeoutError:
        message = f"no answer within {PROBE_SECONDS:g} s"
        return ProbeAnswer(model=model, ok=False, message=message)
    try:
        said = (answer.body or b"").decode(errors="replace")
        fault = _fault(answer.status, said)
        return ProbeAnswer(model=model, version=answer.version, ok=fault is None, message=fault)
    finally:
        answer.close()


def _fault(status: int, said: str) -> str | None:
    if status != 200:
        return f"the engine answered {status}: {said[:300]}"
    if '"choices"' not in said:
        return f"the engine's answer is no completion: {said[:300]}"
    return None
