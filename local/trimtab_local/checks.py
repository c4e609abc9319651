"""What must hold before anything is started; each failure names its remedy."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout
from trimtab_local.render import Host

GIB: Final = 1024**3
_TO_RUN: Final = 3 * GIB
# The compiler's own cache included.
_TO_COMPILE: Final = 10 * GIB
# Wheels as they come, and the layers made of them: torch and vLLM, with what they need on a GPU.
_TO_BUILD_IMAGES: Final = 17 * GIB
_LOWER_OOM_SCORE: Final = 24  # CAP_SYS_RESOURCE


def require_root(effective_user: int) -> None:
    if effective_user != 0:
        raise Trouble(
            "the cluster needs namespaces, mounts and cgroups, which only root may make",
            "run this again as root, for instance by sudo",
        )


def require_linux(system: str) -> None:
    if system != "Linux":
        raise Trouble(
            f"the local cluster runs on Linux only, and this is {system}",
            "use a Linux machine, or a cluster of your own through KUBECONFIG",
        )


@dataclass(frozen=True)
class Need:
    """Bytes that a folder will take, and the variable that moves the folder elsewhere."""

    folder: Path
    size: int
    variable: str


def to_run(layout: Layout) -> Need:
    return Need(layout.home, _TO_RUN, "TRIMTAB_LOCAL_HOME")


def to_compile(layout: Layout) -> Need:
    return Need(layout.cache, _TO_COMPILE, "TRIMTAB_CACHE")


def to_build_images(layout: Layout) -> Need:
    return Need(layout.cache, _TO_BUILD_IMAGES, "TRIMTAB_CACHE")


def to_hold_images(layout: Layout, size: int = 7 * GIB) -> Need:
    """Of so many bytes of new layers; the runtime keeps each as it came, and unpacked."""
    return Need(layout.home, _TO_RUN + 2 * size, "TRIMTAB_LOCAL_HOME")


def require_space(
    needs: Iterable[Need],
    free: Callable[[Path], int] | None = None,
    disk: Callable[[Path], int] | None = None,
) -> None:
    """Before minutes of work: what shares a disk adds up."""
    free, disk = free or free_bytes, disk or disk_of
    ordered = sorted(needs, key=lambda need: disk(need.folder))
    for _, sharing in itertools.groupby(ordered, lambda need: disk(need.folder)):
        together = sorted(sharing, key=lambda need: need.size)
        least, have = sum(need.size for need in together), free(together[0].folder)
        if have < least:
            folders = " and ".join(dict.fromkeys(str(need.folder) for need in together))
            raise Trouble(
                f"the disk of {folders} has {have / GIB:.1f} GiB free, and {least / GIB:.0f} GiB are needed",
                f"free some space, or set {together[-1].variable} to a folder on a larger disk",
            )


def disk_of(folder: Path) -> int:
    return _there(folder).stat().st_dev


def free_bytes(folder: Path) -> int:
    """Free space where the folder is, or where it will be once it is made."""
    return shutil.disk_usage(_there(folder)).free


def _there(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def look_at_host(status: Path = Path("/proc/self/status")) -> Host:
    return Host(
        cgroup_v2=is_cgroup_v2(),
        may_lower_oom_score=has_capability(status.read_text(), _LOWER_OOM_SCORE),
    )


def is_cgroup_v2(root: Path = Path("/sys/fs/cgroup")) -> bool:
    return (root / "cgroup.controllers").exists()


def has_capability(status: str, number: int) -> bool:
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> number & 1)
    return os.geteuid() == 0
