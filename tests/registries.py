"""Registries for tests: the real one as a process, and a fake one that does what a test wants of it."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trimtab_local import build
from trimtab_local.layout import layout_from


def registry_binary() -> Path | None:
    """The registry that the local cluster uses, if it has been built on this machine."""
    binary = build.binary(layout_from(os.environ), "registry")
    return binary if binary.is_file() else None


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_registry(binary: Path, directory: Path, extra: str = "") -> Iterator[str]:
    """The real registry on a loopback port; yields host:port."""
    port = free_port()
    config = directory / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {directory}/blobs}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: tests}}\n{extra}"
    )
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen([str(binary), "serve", str(config)], stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1)
            return
        time.sleep(0.05)
    raise RuntimeError("the registry did not come up")
