"""Puts images into the cluster's container runtime."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from trimtab_local import build
from trimtab_local.errors import Trouble
from trimtab_local.layout import PAUSE_IMAGE, Layout
from trimtab_local.ociarchive import write_archive

_NAMESPACE: Final = "k8s.io"
_LOCALHOST: Final = "localhost/"


def names(layout: Layout) -> set[str]:
    """The images there are, by name; those known by digest alone left out."""
    lines = _ctr(layout, "images", "list", "--quiet").splitlines()
    return {line for line in lines if line and not line.startswith("sha256:")}


def load(layout: Layout, archive: Path) -> list[str]:
    """Imports an OCI or Docker archive; the names of the images that were in it."""
    if not archive.is_file():
        raise Trouble(
            f"there is no file {archive}",
            "name an archive as `buildah push IMAGE oci-archive:FILE` writes it",
        )
    before = _digests(layout)
    _ctr(layout, "images", "import", "--local", str(archive))
    after = _digests(layout)
    changed = [name for name, digest in after.items() if before.get(name) != digest]
    for name, alias in aliases(after):
        if after.get(alias) != after[name]:
            _ctr(layout, "images", "tag", "--force", name, alias)
            changed.append(alias)
    return sorted(set(changed))


def aliases(found: Iterable[str]) -> list[tuple[str, str]]:
    """Builders put localhost/ before a bare name, where Kubernetes reads docker.io/."""
    return [
        (name, f"docker.io/{name.removeprefix(_LOCALHOST)}")
        for name in sorted(found)
        if name.startswith(_LOCALHOST) and "/" in name.removeprefix(_LOCALHOST)
    ]


def _digests(layout: Layout) -> dict[str, str]:
    lines = _ctr(layout, "images", "list").splitlines()[1:]
    fields = (line.split() for line in lines)
    return {f[0]: f[2] for f in fields if len(f) > 2 and not f[0].startswith("sha256:")}


def ensure_pause_image(layout: Layout) -> None:
    if PAUSE_IMAGE in names(layout):
        return
    archive = layout.run / "pause.tar"
    write_archive(build.binary(layout, "pause"), PAUSE_IMAGE, archive)
    load(layout, archive)
    archive.unlink()


def _ctr(layout: Layout, *arguments: str) -> str:
    program = layout.programs / "ctr"
    if not program.exists():
        raise Trouble("the cluster's programs are not built yet", "run `trimtab-local up`")
    command = [str(program), "--address", str(layout.containerd_socket), "--namespace", _NAMESPACE]
    return _run([*command, *arguments])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise Trouble(
            f"the container runtime refused ({lines[-1]})",
            "see `trimtab-local status` and `trimtab-local logs containerd`",
        )
    return done.stdout
