"""What must hold before anything is started; each failure names its remedy."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout
from trimtab_local.render import Host

GIB: Final = 1024**3
NEEDED_TO_RUN: Final = 3 * GIB
# The compiler's own cache included.
NEEDED_TO_BUILD: Final = 10 * GIB
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


def require_space(
    layout: Layout, *, building: bool, free: Callable[[Path], int] | None = None
) -> None:
    free = free or free_bytes
    needed = [(layout.home, NEEDED_TO_RUN, "TRIMTAB_LOCAL_HOME")]
    if building:
        needed.append((layout.cache, NEEDED_TO_BUILD, "TRIMTAB_CACHE"))
    for folder, least, variable in needed:
        have = free(folder)
        if have < least:
            raise Trouble(
                f"{folder} has {have / GIB:.1f} GiB free and {least / GIB:.0f} GiB are needed",
                f"free some space, or set {variable} to a folder on a larger disk",
            )


def free_bytes(folder: Path) -> int:
    """Free space where the folder is, or where it will be once it is made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


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
