"""kubectl and helm, as a user would call them."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Object = dict[str, Any]
# What the rules in our CRDs say about a field that is fixed for an object's life.
_FIXED = "cannot be changed"
# What the API server says of a kind that its policies do not know yet: a new one, or any after a start.
_TRY_LATER = ("(ServiceUnavailable)", "failed to find resource referenced by paramKind")
_KIND_KNOWN_SECONDS = 60.0


class CommandFailed(Exception):
    """A command that a user could have typed did not work; says which and what it printed."""


@dataclass(frozen=True)
class Kube:
    """One cluster and one namespace of it; kubectl and helm are those in `tools`, else those on PATH."""

    kubeconfig: Path
    namespace: str
    tools: Path | None = None

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl in the namespace; return what it printed."""
        return run([self.tool("kubectl"), "-n", self.namespace, *arguments], self.environment, text)

    def helm(self, *arguments: str) -> str:
        """Run helm."""
        return run([self.tool("helm"), *arguments], self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of both tools."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def get(self, kind: str, name: str) -> Object | None:
        """One object, or None when it does not exist."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def apply(self, manifest: str) -> None:
        """Server-side apply of YAML.

        The API server's policies learn of a kind some seconds after the API server: tried again.
        """
        command = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        end = time.monotonic() + _KIND_KNOWN_SECONDS
        while True:
            try:
                self.kubectl(*command, text=manifest)
            except CommandFailed as refusal:
                if not is_too_early(str(refusal)) or time.monotonic() > end:
                    raise
                time.sleep(1)
            else:
                return

    def replace(self, manifest: str) -> bool:
        """Apply; what may not be changed in place is deleted and made anew. Whether it had to be."""
        try:
            self.apply(manifest)
        except CommandFailed as refusal:
            if _FIXED not in str(refusal):
                raise
        else:
            return False
        self.delete(manifest)
        self.apply(manifest)
        return True

    def delete(self, manifest: str) -> None:
        """Delete what the YAML names, and wait until it is gone."""
        self.kubectl("delete", "--ignore-not-found", "--timeout=120s", "-f", "-", text=manifest)

    @contextlib.contextmanager
    def forwarded(self, service: str, port: int, local: int | None = None) -> Iterator[str]:
        """A base URL on loopback that leads to the service, while the context lasts."""
        local = local or free_port()
        process = subprocess.Popen(
            [
                self.tool("kubectl"),
                "-n",
                self.namespace,
                "port-forward",
                f"service/{service}",
                f"{local}:{port}",
            ],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for_port(local, process)
            yield f"http://127.0.0.1:{local}"
        finally:
            process.terminate()
            process.wait()

    def tool(self, name: str) -> str:
        """How the program is called here."""
        bundled = self.tools / name if self.tools else None
        return str(bundled) if bundled and bundled.exists() else name


def run(
    command: list[str], environment: dict[str, str] | None = None, text: str | None = None
) -> str:
    """Run a command to its end and return its output; raise CommandFailed with its last words."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL if text is None else None,
        )
    except FileNotFoundError as missing:
        raise CommandFailed(
            f"{command[0]} is not installed; install it or put it on PATH"
        ) from missing
    if done.returncode:
        raise CommandFailed(
            f"{' '.join(command[:6])} failed: {(done.stderr or done.stdout).strip()[-1500:]}"
        )
    return done.stdout


def condition(found: Object | None, kind: str) -> Object:
    """The condition of that type, or an Unknown one."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    unknown = {
        "type": kind,
        "status": "Unknown",
        "reason": "NotReported",
        "message": "not reported yet",
    }
    return next((c for c in conditions if c["type"] == kind), unknown)


def holds(found: Object | None, state: Object) -> bool:
    """Whether the condition is True of the spec as it is now, not of an earlier one."""
    generation = (found or {}).get("metadata", {}).get("generation", 0)
    return bool(state["status"] == "True" and state.get("observedGeneration", 0) >= generation)


def wait(look: Callable[[], bool], seconds: float, what: str, every: float = 1.0) -> None:
    """Look until it holds; CommandFailed with `what` when time is up."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise CommandFailed(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(every)


def post(url: str, body: Object, timeout: float = 120, patience: float = 0) -> Object:
    """POST JSON, get JSON; while the service is unavailable it is asked again, for `patience` seconds."""
    end = time.monotonic() + patience
    answer = httpx.post(url, json=body, timeout=timeout)
    while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and time.monotonic() < end:
        time.sleep(1)
        answer = httpx.post(url, json=body, timeout=timeout)
    if answer.is_error:
        raise CommandFailed(f"{url} answered {answer.status_code}: {answer.text[:500]}")
    found: Object = answer.json()
    return found


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            raise CommandFailed("kubectl port-forward ended at once; is the service ready?")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise CommandFailed("kubectl port-forward did not open its port within 20 s")


def is_too_early(refusal: str) -> bool:
    """Whether the API server will take the same some seconds later."""
    return any(words in refusal for words in _TRY_LATER)
