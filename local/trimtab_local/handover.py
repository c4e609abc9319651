"""Hands images from the builder's store to the cluster's container runtime.

Through an OCI layout that leaves out every layer the runtime already has, so that after
a change of our own code kilobytes move instead of gigabytes. New layers are moved, not copied.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from trimtab_local import build, checks
from trimtab_local.buildah import Buildah, run_logged
from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout

# The name by which the runtime will know the image; OCI's own annotation holds only a tag.
NAME_ANNOTATION: Final = "io.containerd.image.name"
_NAMESPACE: Final = "k8s.io"
_KEPT: Final = "containerd.io/gc.root"


def missing(layout: Layout, buildah: Buildah, references: Sequence[str]) -> list[str]:
    """The images that the cluster has not, or has in another state than the builder."""
    held = _held_configs(layout, references)
    return [name for name in references if held.get(name) != _config_digest(buildah, name)]


def load(layout: Layout, buildah: Buildah, references: Sequence[str], log: Path) -> None:
    layers, held = _layers(buildah, references), _content(layout)
    lacking = {digest: size for digest, size in layers.items() if digest not in held}
    checks.require_space([checks.to_hold_images(layout, sum(lacking.values()))])
    with _scratch(layout) as folder:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        placeholders = _pretend(blobs, {d: held[d] for d in layers if d in held})
        for number, reference in enumerate(references):
            # skopeo, since `buildah push` would compress gigabytes that nobody sends over a network.
            target = f"oci:{folder}:{number}"
            command = [
                "skopeo",
                "copy",
                "--insecure-policy",
                "--dest-oci-accept-uncompressed-layers",
            ]
            # What it leaves when it is killed, gigabytes by default in /var/tmp, goes with the folder.
            environment = os.environ | {"TMPDIR": str(folder)}
            run_logged([*command, buildah.address(reference), target], log, environment)
        for placeholder in placeholders:
            placeholder.unlink()
        index = folder / "index.json"
        names = [_incoming(reference) for reference in references]
        index.write_text(json.dumps(renamed(json.loads(index.read_text()), names)))
        with _given(layout, [blobs / digest.removeprefix("sha256:") for digest in lacking]):
            _import(layout, folder)
    for name, reference in zip(names, references, strict=True):
        _ctr(layout, "images", "tag", "--force", name, reference)
        _ctr(layout, "images", "remove", name)


@contextmanager
def _scratch(layout: Layout) -> Iterator[Path]:
    """A folder on the runtime's own disk; whatever lies in it was left by a crash."""
    folder = layout.containerd / "handover"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _given(layout: Layout, blobs: Sequence[Path]) -> Iterator[None]:
    """The runtime has these layers, and keeps them at least until the end of the block."""
    given: list[str] = []
    try:
        given.extend(_give(layout, blob) for blob in blobs)
        yield
    finally:
        for digest in given:
            _ctr(layout, "content", "label", digest, f"{_KEPT}=")


def _give(layout: Layout, blob: Path) -> str:
    """Moves a layer to where the runtime keeps it, and says so; its digest.

    The runtime takes what it has under an announced digest as it is (`content_sharing_policy`,
    by default "shared"), so that gigabytes are neither written nor hashed once more. Were the
    blob not there for it, it would copy it from its standard input.
    """
    digest = f"sha256:{blob.name}"
    place = _store(layout) / blob.name
    blob.chmod(0o444)
    blob.replace(place)
    flags = ["--expected-digest", digest, "--expected-size", str(place.stat().st_size)]
    with place.open("rb") as content:
        _ctr(layout, "content", "ingest", *flags, f"trimtab-{blob.name}", stdin=content)
    # Until the image is there, nothing else keeps it from being collected.
    _ctr(layout, "content", "label", digest, f"{_KEPT}=handover")
    return digest


def _incoming(reference: str) -> str:
    """A name that no pod uses.

    The runtime knows an image by its name before it has unpacked it, and would unpack it once
    more for every pod that waits for that name: gigabytes each, all at the same time.
    """
    return f"{reference}-incoming"


def renamed(index: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The index with each manifest under its full name instead of its number."""
    tag = "org.opencontainers.image.ref.name"
    manifests = [
        manifest | {"annotations": {NAME_ANNOTATION: names[int(manifest["annotations"][tag])]}}
        for manifest in index["manifests"]
    ]
    return dict(index) | {"manifests": manifests}


def _pretend(blobs: Path, content: Mapping[str, int]) -> list[Path]:
    """Empty files of the right size for what the runtime has: skopeo skips those.

    They are sparse and take no room; nobody reads them, and they are gone before the import.
    """
    made = []
    for digest, size in content.items():
        blob = blobs / digest.removeprefix("sha256:")
        with blob.open("wb") as file:
            file.truncate(size)
        made.append(blob)
    return made


def _layers(buildah: Buildah, references: Sequence[str]) -> dict[str, int]:
    """Size in bytes of every layer of these images, by its digest."""
    manifests = [buildah.manifest(reference) for reference in references]
    return {layer["digest"]: layer["size"] for m in manifests for layer in m["layers"]}


def _config_digest(buildah: Buildah, reference: str) -> str:
    image = buildah.inspect(reference)
    if image is None:
        raise Trouble(
            f"there is no image {reference}", "build it first: trimtab-local images build"
        )
    return f"sha256:{image['FromImageID']}"


def _held_configs(layout: Layout, references: Sequence[str]) -> dict[str, str]:
    """Digest of the configuration of each of these images that the runtime has."""
    rows = [line.split() for line in _ctr(layout, "images", "list").splitlines()[1:]]
    digests = {row[0]: row[2] for row in rows if len(row) > 2 and row[0] in references}
    manifests = {
        name: json.loads(_ctr(layout, "content", "get", digest)) for name, digest in digests.items()
    }
    return {name: m["config"]["digest"] for name, m in manifests.items() if "config" in m}


def _content(layout: Layout) -> dict[str, int]:
    """Size in bytes of every blob that the runtime has."""
    digests = _ctr(layout, "content", "list", "--quiet").split()
    paths = {digest: _store(layout) / digest.removeprefix("sha256:") for digest in digests}
    return {digest: path.stat().st_size for digest, path in paths.items() if path.is_file()}


def _store(layout: Layout) -> Path:
    return layout.containerd / "io.containerd.content.v1.content" / "blobs" / "sha256"


def _import(layout: Layout, folder: Path) -> None:
    """As a stream, so that gigabytes are not written once more in between."""
    command = [*_client(layout), "images", "import", "--local", "--all-platforms", "-"]
    with subprocess.Popen(
        ["tar", "-C", str(folder), "-cf", "-", "."], stdout=subprocess.PIPE
    ) as tar:
        done = subprocess.run(
            command, stdin=tar.stdout, capture_output=True, text=True, check=False
        )
        if tar.stdout is not None:
            tar.stdout.close()
    _judge(done)


def _ctr(layout: Layout, *arguments: str, stdin: IO[bytes] | int = subprocess.DEVNULL) -> str:
    done = subprocess.run(
        [*_client(layout), *arguments], stdin=stdin, capture_output=True, text=True, check=False
    )
    _judge(done)
    return done.stdout


def _client(layout: Layout) -> list[str]:
    program = str(build.binary(layout, "ctr"))
    return [program, "--address", str(layout.containerd_socket), "--namespace", _NAMESPACE]


def _judge(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise Trouble(
            f"the container runtime refused ({lines[-1]})",
            "see `trimtab-local status` and `trimtab-local logs containerd`",
        )
