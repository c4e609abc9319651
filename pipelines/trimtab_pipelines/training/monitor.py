"""What the world may ask a running training: GET /progress and /metrics.

The server answers from what the loop last told it; a question never touches the model.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from trimtab_api import names
from trimtab_api.documents import ProgressReport

log = logging.getLogger(__name__)

PORT_VARIABLE = "TRIMTAB_TRAINER_PORT"
# Speed is that of the last steps: a slow beginning (warm-up, a busy node) says little about the end.
RECENT_STEPS = 50


@dataclass(frozen=True)
class Told:
    """What the loop says after a step."""

    step: int
    steps: int
    tokens: int
    loss: float
    learning_rate: float
    gradient_norm: float


@dataclass
class Monitor:
    """The last progress, as JSON and as metrics."""

    progress: ProgressReport = field(default_factory=ProgressReport)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _marks: deque[tuple[float, int, int]] = field(
        default_factory=lambda: deque(maxlen=RECENT_STEPS)
    )
    _gauges: dict[str, Gauge] = field(default_factory=dict)

    def begin(self, step: int, steps: int, tokens: int) -> None:
        """Speed and remaining time are measured from here on."""
        self._marks.clear()
        self._marks.append((time.monotonic(), step, tokens))
        self.progress = self.progress.model_copy(
            update={"step": step, "steps": steps, "percent": _percent(step, steps)}
        )
        self._set("steps_planned", "Optimiser steps in all.", steps)

    def tell(self, told: Told) -> None:
        began, first, tokens_then = self._marks[0]
        self._marks.append((time.monotonic(), told.step, told.tokens))
        elapsed = max(time.monotonic() - began, 1e-9)
        speed = (told.tokens - tokens_then) / elapsed
        per_step = elapsed / max(1, told.step - first)
        self.progress = self.progress.model_copy(
            update={
                "step": told.step,
                "steps": told.steps,
                "percent": _percent(told.step, told.steps),
                "eta_seconds": round(per_step * (told.steps - told.step)),
                "loss": round(told.loss, 5),
                "tokens_per_second": round(speed, 1),
            }
        )
        self._set("loss", "Training loss, nats per token, smoothed.", told.loss)
        self._set("steps", "Optimiser steps done.", told.step)
        self._set("tokens", "Tokens seen.", told.tokens)
        self._set("tokens_per_second", "Speed.", speed)
        self._set("learning_rate", "Learning rate.", told.learning_rate)
        self._set("gradient_norm", "Norm of the gradient before clipping.", told.gradient_norm)

    def evaluated(self, loss: float) -> None:
        self.progress = self.progress.model_copy(update={"eval_loss": round(loss, 5)})
        self._set("eval_loss", "Loss on the validation split, nats per token.", loss)

    def _set(self, name: str, text: str, value: float) -> None:
        if name not in self._gauges:
            full = f"trimtab_training_{name}"
            self._gauges[name] = Gauge(full, text, registry=self.registry)
        self._gauges[name].set(value)


def _percent(step: int, steps: int) -> int:
    return 100 * step // max(1, steps)


@contextmanager
def served(monitor: Monitor, port: int | None = None) -> Iterator[int]:
    """Answer questions about a training while it runs."""
    if port is None:
        port = int(os.environ.get(PORT_VARIABLE) or names.PORT_TRAINER)
    server = ThreadingHTTPServer(("", port), _handler(monitor))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="monitor", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _handler(monitor: Monitor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/progress":
                    body = monitor.progress.model_dump_json(by_alias=True, exclude_none=True)
                    self._answer("application/json", body.encode())
                case "/metrics":
                    self._answer(CONTENT_TYPE_LATEST, generate_latest(monitor.registry))
                case _:
                    self.send_error(404)

        def _answer(self, content_type: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            # Whoever asked may have gone; the training does not care.
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            log.debug(format, *args)

    return Handler
