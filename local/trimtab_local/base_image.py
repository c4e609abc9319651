"""The image that all others start from, made on this machine out of Debian packages.

A cluster that can reach a public registry starts from Python's own slim image instead
(`BASE_IMAGE=`). The mirror is the one that this machine's apt uses.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from trimtab_local.buildah import INPUTS_LABEL, Buildah, run_logged
from trimtab_local.errors import Trouble

NAME: Final = "localhost/trimtab-base:bookworm"
SUITE: Final = "bookworm"
# libgomp1 and libnuma1 are what torch and vLLM load beyond the C++ runtime.
PACKAGES: Final = ("ca-certificates", "libgomp1", "libnuma1", "netbase", "python3", "tzdata")
# Read by nobody in a container. Licences (usr/share/doc/*/copyright) stay.
DEAD_WEIGHT: Final = (
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
)
_CONTAINERFILE: Final = "FROM scratch\nADD root.tar /\n"


def is_current(buildah: Buildah) -> bool:
    return buildah.label(NAME, INPUTS_LABEL) == inputs()


def make(buildah: Buildah, temporary: Path, log: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="base.", dir=temporary) as scratch:
        folder = Path(scratch)
        _bootstrap(folder / "root", log)
        _lighten(folder / "root")
        _pack(folder, log)
        label = f"{INPUTS_LABEL}={inputs()}"
        buildah.run(["build", "--label", label, "--tag", NAME, str(folder)], log)


def inputs() -> str:
    """Digest of everything that decides what is in the base image."""
    recipe = json.dumps([SUITE, PACKAGES, DEAD_WEIGHT, _CONTAINERFILE])
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def mirror(index_targets: str) -> str:
    """The mirror of the suite among `URI suite component` lines, as apt-get indextargets gives."""
    for line in index_targets.splitlines():
        uri, _, rest = line.partition(" ")
        if rest.split()[:2] == [SUITE, "main"]:
            return uri
    raise Trouble(
        f"this machine's apt knows no mirror of Debian {SUITE}, which the images start from",
        "name another base: BASE_IMAGE=<an image with Python 3.11>",
    )


def _configured_mirror() -> str:
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return mirror(listed.stdout)


def _bootstrap(root: Path, log: Path) -> None:
    # debootstrap mounts /proc and /sys in the new root. In a mount namespace of its own they are gone when it ends,
    # however it ends, and whoever removes the root afterwards never meets them.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
    packages = f"--include={','.join(PACKAGES)}"
    run_logged([*command, packages, SUITE, str(root), _configured_mirror()], log)


def _lighten(root: Path) -> None:
    for name in DEAD_WEIGHT:
        for entry in (root / name).iterdir() if (root / name).is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for document in (root / "usr/share/doc").rglob("*"):
        if document.name != "copyright" and not document.is_dir():
            document.unlink()


def _pack(folder: Path, log: Path) -> None:
    # Device files are the container runtime's to make, and an unprivileged builder could not unpack them.
    options = ["--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"]
    run_logged(
        ["tar", *options, "-C", str(folder / "root"), "-cf", str(folder / "root.tar"), "."], log
    )
    shutil.rmtree(folder / "root")
    (folder / "Containerfile").write_text(_CONTAINERFILE)
