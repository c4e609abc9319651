"""buildah as this project uses it: a store of its own in the build cache, no daemon, no Docker."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trimtab_local.errors import Trouble

# Says what an image was made of, so that nothing is built twice.
INPUTS_LABEL: Final = "dev.trimtab.inputs"
_TAIL_LINES: Final = 15


@dataclass(frozen=True)
class Buildah:
    """Images live under `store`; `chroot` isolation needs nothing that a container runtime would."""

    store: Path
    scratch: Path

    def run(self, arguments: Sequence[str], log: Path, temporary: Path | None = None) -> None:
        """`temporary` is where it keeps caches and half-made layers, /var/tmp by default."""
        extra = {"TMPDIR": str(temporary)} if temporary else {}
        run_logged([*self._command(), *arguments], log, _environment() | extra)

    def ask(self, arguments: Sequence[str]) -> str | None:
        """What it prints; None where it refuses."""
        told = subprocess.run(
            [*self._command(), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
        return told.stdout if told.returncode == 0 else None

    def label(self, image: str, name: str) -> str | None:
        found = self.inspect(image)
        labels = (found or {}).get("OCIv1", {}).get("config", {}).get("Labels") or {}
        return labels.get(name)

    def inspect(self, image: str) -> dict[str, Any] | None:
        """What buildah knows about an image; None where there is none of that name."""
        told = self.ask(["inspect", "--type", "image", image])
        return dict(json.loads(told)) if told else None

    def manifest(self, image: str) -> dict[str, Any]:
        """The image's manifest; layers are as they are stored, uncompressed."""
        told = subprocess.run(
            ["skopeo", "inspect", "--raw", self.address(image)],
            capture_output=True,
            check=True,
            env=_environment(),
        )
        return dict(json.loads(told.stdout))

    def address(self, image: str) -> str:
        """Names an image of this store to other programs of the same family."""
        return f"containers-storage:[overlay@{self.store}+{self.scratch}]{image}"

    def _command(self) -> list[str]:
        places = ["--root", str(self.store), "--runroot", str(self.scratch)]
        return ["buildah", *places, "--storage-driver", "overlay"]


def run_logged(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Runs to the end with its output in `log`; a failure shows the end of that output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        start = output.tell()
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        said = log.read_bytes()[start:].decode(errors="replace").splitlines()[-_TAIL_LINES:]
        raise Trouble(
            f"{Path(command[0]).name} ended with code {done.returncode}",
            "\n".join([f"it said (all of it in {log})", *said]),
        )


def _environment() -> dict[str, str]:
    return os.environ | {"BUILDAH_ISOLATION": "chroot", "LC_ALL": "C.UTF-8"}
