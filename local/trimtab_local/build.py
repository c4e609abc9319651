"""Builds the programs of the cluster, each once per content.

A program lives in the cache under a hash of all that goes into it, so a clean
clone on the same machine compiles nothing, and a changed pin never meets an old
binary. Go finds its modules as its own settings in the environment say.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout
from trimtab_local.processes import look_up

KUBERNETES: Final = "1.37.2"  # as in programs/go.mod
HELM: Final = "4.3.1"  # likewise
KUBE: Final = "trimtab-kube"
SOURCES: Final = Path(__file__).resolve().parent.parent
VERSION_PACKAGE: Final = "k8s.io/component-base/version"
SMALL: Final = "-s -w"
# Debug information that the linker would only drop again is not made in the first place, and the
# compiler, which runs for a second per package, collects no garbage before there is much of it.
NO_DEBUG: Final = "all=-dwarf=false"
_THRIFTY: Final = {"GOGC": "off", "GOMEMLIMIT": "2GiB"}
_HASH_DIGITS: Final = 16


@dataclass(frozen=True)
class Artifact:
    """What one run of the Go compiler leaves: some binaries, and names for them."""

    name: str
    binaries: tuple[str, ...]
    packages: tuple[str, ...]
    # Relative to SOURCES.
    module: str
    flags: str = SMALL
    links: tuple[tuple[str, str], ...] = field(default=())


def _versions() -> str:
    """What binaries made elsewhere cannot tell; clients take a server without it for an unknown one and warn."""
    major, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    kubernetes = [f"-X {VERSION_PACKAGE}.{key}={value}" for key, value in values.items()]
    return " ".join([*kubernetes, f"-X helm.sh/helm/v4/internal/version.version=v{HELM}"])


ARTIFACTS: Final = (
    Artifact("node", ("forward", "pause"), ("./forward", "./pause"), module="node"),
    # One module and one run of the compiler: what several of them are made of is compiled once,
    # which is a quarter of all.
    Artifact(
        "programs",
        (KUBE, "containerd", "ctr", "containerd-shim-runc-v2", "coredns", "registry", "helm"),
        (f"./{KUBE}", "./coredns", "./registry", "tool"),
        module="programs",
        flags=f"{SMALL} {_versions()}",
        links=(("kubectl", KUBE),),
    ),
)
# Not part of `up`: the image by which the tests look around from inside a pod.
PROBE: Final = Artifact("probe", ("probe",), ("./probe",), module="node")


def content_hash(artifact: Artifact, sources: Path = SOURCES) -> str:
    """Some hex digits over everything that decides what the compiler makes."""
    digest = hashlib.sha256(repr((artifact.packages, artifact.flags, NO_DEBUG)).encode())
    for path in _go_files(sources / artifact.module):
        digest.update(f"{path.relative_to(sources)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_HASH_DIGITS]


def _go_files(module: Path) -> Iterator[Path]:
    """What goes into the binaries: tests do not."""
    for path in sorted(module.rglob("*")):
        is_source = path.suffix == ".go" and not path.name.endswith("_test.go")
        if is_source or path.name in ("go.mod", "go.sum"):
            yield path


def folder_of(artifact: Artifact, layout: Layout) -> Path:
    return layout.cache / "programs" / f"{artifact.name}-{content_hash(artifact)}"


def is_built(artifact: Artifact, layout: Layout) -> bool:
    folder = folder_of(artifact, layout)
    return all((folder / binary).is_file() for binary in artifact.binaries)


def missing(layout: Layout, artifacts: Sequence[Artifact] = ARTIFACTS) -> list[Artifact]:
    return [artifact for artifact in artifacts if not is_built(artifact, layout)]


def build(
    artifact: Artifact, layout: Layout, log: Path, tell: Callable[[str], None] = lambda _: None
) -> Path:
    """The folder with the binaries, compiled now if they are not there; `tell` hears how far it is."""
    folder = folder_of(artifact, layout)
    if is_built(artifact, layout):
        return folder
    _remove_abandoned(folder.parent)
    staged = folder.with_name(f"{folder.name}.{os.getpid()}")
    staged.mkdir(parents=True)
    try:
        _compile(artifact, staged, log, tell)
        if not is_built(artifact, layout):  # another checkout may have been quicker
            shutil.rmtree(folder, ignore_errors=True)
            staged.replace(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _remove_abandoned(folder: Path) -> None:
    """Half-built programs of a builder that was killed: its pid is in their names."""
    for staged in folder.glob("*.*"):
        builder = staged.suffix[1:]
        if builder.isdigit() and look_up(int(builder)) is None:
            shutil.rmtree(staged, ignore_errors=True)


def _compile(artifact: Artifact, target: Path, log: Path, tell: Callable[[str], None]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    place, packages = SOURCES / artifact.module, _packages(artifact)
    with (
        log.open("a") as output,
        subprocess.Popen(
            _command(artifact, target),
            cwd=place,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as compiler,
    ):
        for number, line in enumerate(compiler.stdout or (), start=1):
            output.write(line)
            tell(f"{min(number, packages)} of {packages} packages")
    if compiler.returncode:
        raise Trouble(
            f"Go could not build {artifact.name}",
            f"see the end of {log}, most often a proxy or a full disk, and run this again",
        )


def _packages(artifact: Artifact) -> int:
    """How many packages the programs are made of; brings their modules, as the compiler would."""
    done = subprocess.run(
        ["go", "list", "-deps", *artifact.packages],
        cwd=SOURCES / artifact.module,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the compiler says it again
        check=False,
    )
    return done.stdout.count(b"\n")


def _environment() -> dict[str, str]:
    return _THRIFTY | os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}


def _command(artifact: Artifact, target: Path) -> list[str]:
    flags = ["-v", "-gcflags", NO_DEBUG, "-ldflags", artifact.flags, "-o", f"{target}{os.sep}"]
    return ["go", "build", *flags, *artifact.packages]


def link(layout: Layout, artifacts: Sequence[Artifact] = ARTIFACTS) -> None:
    """Puts stable names for the current binaries into one folder for the PATH."""
    layout.programs.mkdir(parents=True, exist_ok=True)
    for artifact in artifacts:
        folder = folder_of(artifact, layout)
        names = [(binary, binary) for binary in artifact.binaries]
        for name, binary in [*names, *artifact.links]:
            _replace_link(layout.programs / name, folder / binary)


def _replace_link(link_path: Path, target: Path) -> None:
    if link_path.is_symlink() and link_path.readlink() == target:
        return
    staged = link_path.with_name(f".{link_path.name}.{os.getpid()}")
    staged.symlink_to(target)
    staged.replace(link_path)


def remove_outdated(
    layout: Layout, artifacts: Sequence[Artifact] | None = None, proc: Path = Path("/proc")
) -> list[Path]:
    """Deletes earlier builds of the programs, and returns them.

    One that still runs stays: another cluster's, or the guardian of a container that has outlived an update.
    """
    folder = layout.cache / "programs"
    chosen = (*ARTIFACTS, PROBE) if artifacts is None else artifacts
    builds = [path for a in chosen for path in folder.glob(f"{a.name}-{'[0-9a-f]' * _HASH_DIGITS}")]
    kept = {folder_of(artifact, layout) for artifact in chosen} | _running_from(folder, proc)
    outdated = sorted(set(builds) - kept)
    for path in outdated:
        shutil.rmtree(path, ignore_errors=True)
    return outdated


def _running_from(folder: Path, proc: Path) -> set[Path]:
    """The builds in the folder that some process runs a program of."""
    used = set()
    for entry in proc.glob("[0-9]*"):
        try:
            program = (entry / "exe").readlink()
        except OSError:
            continue  # gone meanwhile, or a kernel thread
        if program.is_relative_to(folder.resolve()):
            used.add(folder / program.relative_to(folder.resolve()).parts[0])
    return used


def binary(layout: Layout, name: str) -> Path:
    """Where a built program really is; the hash in the path tells its versions apart."""
    for artifact in (*ARTIFACTS, PROBE):
        if name in artifact.binaries:
            return folder_of(artifact, layout) / name
    raise KeyError(name)


def require_go(which: Callable[[str], str | None] = shutil.which) -> None:
    if which("go") is None:
        raise Trouble(
            "the Go compiler is not on the PATH, and the cluster's programs are not built yet",
            "install Go 1.26 or later and run this again",
        )
