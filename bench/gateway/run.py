"""What gateway and agent add to a request, against an engine asked directly.

Gateway and agent run on one core, mock engine and load on another. Direct and proxied requests take
turns, so that whatever else the machine does meets both alike. API keys, metrics, signals with topics,
response ids, feedback, limits of keys and the capture of every request are on, and each request is another user's, so
that as many are looked at as ever are.
"""

import argparse
import base64
import contextlib
import itertools
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trimtab_api.features import FEATURES_VERSION

TOP = Path(__file__).resolve().parents[2]
RESULTS = TOP / "bench" / "results" / "gateway.json"
KEY = "a-key-of-some-length"
DIGEST = "sha256:" + "b" * 64
P50_GOAL_MS, P99_GOAL_MS = 0.8, 1.6
USERS = 1000
DIMENSIONS, TOPICS = 256, 32
QUESTION = "What does the function os.path.commonprefix do, and when would one rather use another? "


@dataclass(frozen=True)
class Ports:
    engine: int
    agent: int
    gateway: int
    admin: int


def main() -> None:
    arguments = _arguments()
    ports = Ports(*_free_ports(4))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pids = stack.enter_context(_programs(ports, directory, arguments.core, arguments.load_core))
        _pin(0, arguments.load_core)
        _wait_until_it_answers(ports)
        figures = _measure(ports, arguments.requests)
        figures["memoryMiB"] = {name: _memory_mib(pid) for name, pid in pids.items()}
        figures["cpuMicrosecondsPerRequest"] = _cpu_per_request(ports, pids)
        figures["streams"] = _streams(ports, arguments.streams)
        figures["requestsPerSecond"] = _throughput(ports, arguments.clients)
    _report(figures, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="pairs of requests")
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--core", type=int, default=0, help="core of gateway and agent")
    parser.add_argument("--load-core", type=int, default=1, help="core of mock engine and load")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [found.getsockname()[1] for found in sockets]


def _pin(pid: int, core: int) -> None:
    os.sched_setaffinity(pid, {core})


def _table(ports: Ports) -> str:
    version = {"version": "bot-1", "digest": DIGEST, "kind": "Full", "weight": 100}
    return json.dumps(
        {
            "namespace": "ns",
            "service": "svc",
            "baseDigest": DIGEST,
            "engines": [{"name": "engine", "address": f"127.0.0.1:{ports.agent}"}],
            "models": [{"name": "bot", "versions": [version]}],
        }
    )


@contextlib.contextmanager
def _programs(ports: Ports, directory: Path, core: int, load_core: int) -> Iterator[dict[str, int]]:
    keys, capture = directory / "keys", directory / "capture"
    for folder in (keys, capture):
        folder.mkdir()
    (keys / "one").write_text(KEY)
    _write_profile(directory / "adapters")
    shared = {
        "PYTHONPATH": f"{TOP / 'crds'}:{TOP / 'serving'}",
        "PATH": os.environ["PATH"],
        "TRIMTAB_API_SERVER": f"http://127.0.0.1:{ports.engine}",
        "TRIMTAB_NAMESPACE": "ns",
        "TRIMTAB_SERVICE": "svc",
        "TRIMTAB_ROUTING_CONFIGMAP": "svc-routing",
        "TRIMTAB_TABLE_CACHE": "",
        "TRIMTAB_HOST": "127.0.0.1",
        "TRIMTAB_STOP_NOTICE_SECONDS": "0",
    }
    agent = {
        "TRIMTAB_ENGINE_URL": f"http://127.0.0.1:{ports.engine}",
        "TRIMTAB_BASE_NAME": "tiny",
        "TRIMTAB_ADAPTER_DIRECTORY": str(directory / "adapters"),
        "TRIMTAB_PORT": str(ports.agent),
    }
    gateway = {
        "TRIMTAB_API_KEYS": str(keys),
        "TRIMTAB_PORT": str(ports.gateway),
        "TRIMTAB_ADMIN_PORT": str(ports.admin),
        "TRIMTAB_FEEDBACK_WITHIN_SECONDS": "3600",
        "TRIMTAB_FEEDBACK_PER_MINUTE": "600",
        "TRIMTAB_ABUSE_TIMES_BUSIEST_MINUTE": "5",
        "TRIMTAB_ABUSE_REFUSED_PERCENT": "50",
        "TRIMTAB_ABUSE_REQUESTS_PER_MINUTE": "600000",
        "TRIMTAB_ABUSE_THROTTLED_PER_MINUTE": "600000",
        "TRIMTAB_CAPTURE": str(capture),
        "TRIMTAB_CAPTURE_PERCENT": "100",
        "TRIMTAB_CAPTURE_RETENTION_SECONDS": "86400",
        "TRIMTAB_CAPTURE_MAX_BYTES": str(1 << 30),
    }
    mock = [str(Path(__file__).with_name("mock.py")), str(ports.engine), _table(ports)]
    program = ["-m", "trimtab_serving"]
    wanted = (
        ("engine", mock, shared, load_core),
        ("agent", [*program, "agent"], shared | agent, core),
        ("gateway", [*program, "gateway"], shared | gateway, core),
    )
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command, environment, where in wanted:
            running[name] = subprocess.Popen([sys.executable, *command], env=environment)
            _pin(running[name].pid, where)
        yield {name: running[name].pid for name in ("gateway", "agent")}
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(timeout=20)


def _write_profile(directory: Path) -> None:
    """The record of a version that the agent has verified earlier, with topics to compare with."""
    dice = random.Random(1)  # noqa: S311 - any figures will do
    topics = {
        "weights": base64.b64encode(dice.randbytes(DIMENSIONS)).decode(),
        "centroids": [base64.b64encode(dice.randbytes(DIMENSIONS)).decode() for _ in range(TOPICS)],
        "leastSimilarity": 0.0,
        "counts": [1] * (TOPICS + 1),
    }
    histogram = [0] * 12
    profile = {
        "features": FEATURES_VERSION,
        "prompts": 1,
        "promptCharacters": histogram,
        "promptTokens": histogram,
        "topics": topics,
    }
    fingerprint = {"dtype": "float32", "tolerance": 0.05, "sequences": []}
    record = {"digest": DIGEST, "files": {}, "report": "", "fingerprint": fingerprint}
    place = directory / ".records" / f"{DIGEST.removeprefix('sha256:')}.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({**record, "profile": profile}))


class Client:
    """One kept connection, blocking: nothing of the client's own stands between the two clocks."""

    def __init__(self, port: int, model: str, *, stream: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = itertools.cycle(_requests(model, stream=stream))

    def ask(self) -> float:
        """Seconds from the first byte sent to the last received."""
        request = next(self._requests)
        began = time.perf_counter()
        self._socket.sendall(request)
        data = self._socket.recv(65536)
        while not _is_whole(data):
            data += self._socket.recv(65536)
        seconds = time.perf_counter() - began
        if not data.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(data.decode())
        return seconds

    def stream(self) -> float:
        """Seconds of a whole streamed answer."""
        request = next(self._requests)
        began = time.perf_counter()
        self._socket.sendall(request)
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += self._socket.recv(262144)
        return time.perf_counter() - began


def _requests(model: str, *, stream: bool) -> list[bytes]:
    """The same question of many users."""
    messages = [{"role": "user", "content": QUESTION * 8}]
    fields = {"model": model, "messages": messages, "max_tokens": 64, "stream": stream}
    bodies = [json.dumps({**fields, "user": f"user-{n:04}"}).encode() for n in range(USERS)]
    return [
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n"
            b"content-type: application/json\r\nuser-agent: bench\r\naccept-encoding: gzip, deflate\r\n"
            b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        )
        % (KEY.encode(), len(body), body)
        for body in bodies
    ]


def _is_whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = next(
        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    return len(body) >= int(length.split(b":")[1])


def _wait_until_it_answers(ports: Ports) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            Client(ports.gateway, "bot").ask()
        except (OSError, RuntimeError, IndexError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _measure(ports: Ports, requests: int) -> dict[str, object]:
    direct, agent = Client(ports.engine, "tiny"), Client(ports.agent, "tiny")
    proxied = Client(ports.gateway, "bot")
    for client in (direct, agent, proxied):
        for _ in range(500):
            client.ask()
    rows = [(direct.ask(), agent.ask(), proxied.ask()) for _ in range(requests)]
    added = [whole - bare for bare, _, whole in rows]
    hop = [one - bare for bare, one, _ in rows]
    columns = {
        "direct": [r[0] for r in rows],
        "throughAgent": [r[1] for r in rows],
        "through": [r[2] for r in rows],
    }
    return {
        "addedMs": _quantiles(added),
        "addedByAgentAloneMs": _quantiles(hop),
        "latencyMs": {name: _quantiles(values) for name, values in columns.items()},
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=1000)
    return {f"p{q / 10:g}": round(cuts[q - 1] * 1000, 4) for q in (500, 900, 990, 999)}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_per_request(ports: Ports, pids: dict[str, int], requests: int = 5000) -> dict[str, float]:
    client = Client(ports.gateway, "bot")
    before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
    for _ in range(requests):
        client.ask()
    after = {name: _cpu_seconds(pid) for name, pid in pids.items()}
    return {name: round((after[name] - before[name]) / requests * 1e6, 1) for name in pids}


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def _streams(ports: Ports, count: int) -> dict[str, float]:
    """Streams of 50 pieces, one after the other."""
    direct, proxied = (
        Client(ports.engine, "tiny", stream=True),
        Client(ports.gateway, "bot", stream=True),
    )
    rows = [(direct.stream(), proxied.stream()) for _ in range(count)]
    return {
        "directMs": round(statistics.median(r[0] for r in rows) * 1000, 3),
        "throughMs": round(statistics.median(r[1] for r in rows) * 1000, 3),
    }


def _throughput(ports: Ports, clients: int, seconds: float = 4.0) -> dict[str, float]:
    def rate(port: int, model: str) -> float:
        counts = [0] * clients
        ends = time.monotonic() + seconds

        def work(index: int) -> None:
            client = Client(port, model)
            while time.monotonic() < ends:
                client.ask()
                counts[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return round(sum(counts) / seconds)

    return {"through": rate(ports.gateway, "bot"), "direct": rate(ports.engine, "tiny")}


def _report(figures: dict[str, object], arguments: argparse.Namespace) -> None:
    added = figures["addedMs"]
    assert isinstance(added, dict)
    figures = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "requests": arguments.requests,
        "goal": {"p50Ms": P50_GOAL_MS, "p99Ms": P99_GOAL_MS},
        "met": added["p50"] <= P50_GOAL_MS and added["p99"] <= P99_GOAL_MS,
        **figures,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    print(f"added: p50 {added['p50']} ms, p99 {added['p99']} ms; written to {arguments.output}")


if __name__ == "__main__":
    main()
