"""The Debian packages that the cluster stands on.

Prometheus is unpacked beside our own programs instead of installed: its package
starts a service on the very port that ours wants.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout


@dataclass(frozen=True)
class Package:
    """A package, and a file that shows it is there, whoever installed it."""

    name: str
    shown_by: str


PACKAGES: Final = (
    Package("runc", "runc"),
    Package("containernetworking-plugins", "/usr/lib/cni/ptp"),
    Package("nftables", "nft"),
    Package("conntrack", "conntrack"),
    Package("iproute2", "ip"),
    Package("buildah", "buildah"),
    Package("skopeo", "skopeo"),
    Package("debootstrap", "debootstrap"),
)
# What images are built with, on a machine whose cluster may be elsewhere.
BUILDERS: Final = frozenset({"buildah", "skopeo", "debootstrap"})
_QUIET: Final = {"DEBIAN_FRONTEND": "noninteractive"}
_SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _is_there(package: Package) -> bool:
    if package.shown_by.startswith("/"):
        return Path(package.shown_by).exists()
    return shutil.which(package.shown_by, path=_SYSTEM_FOLDERS) is not None


def missing(is_there: Callable[[Package], bool] = _is_there) -> list[str]:
    return [package.name for package in PACKAGES if not is_there(package)]


def install(names: Sequence[str], log: Path) -> None:
    """Installs without recommendations; refreshes the package lists only if it must."""
    if shutil.which("apt-get") is None:
        raise Trouble(
            f"these packages are missing: {', '.join(names)}",
            "this machine has no apt-get, so install them with its own package manager",
        )
    command = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    if _run(command, log) == 0:
        return
    _run(["apt-get", "update"], log)
    if _run(command, log) != 0:
        raise Trouble(
            f"apt-get could not install {', '.join(names)}",
            f"see the end of {log}, put it right and run this again",
        )


def prometheus(layout: Layout) -> Path:
    return layout.cache / "prometheus" / "usr" / "bin" / "prometheus"


def has_prometheus(layout: Layout) -> bool:
    return prometheus(layout).is_file()


def unpack_prometheus(layout: Layout, log: Path) -> None:
    staged = layout.cache / f"prometheus.{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        _download("prometheus", staged, log)
        archive = next(staged.glob("prometheus_*.deb"))
        if _run(["dpkg-deb", "-x", archive.name, "."], log, staged) != 0:
            raise Trouble("the prometheus package did not unpack", f"see the end of {log}")
        archive.unlink()
        shutil.rmtree(layout.cache / "prometheus", ignore_errors=True)
        staged.replace(layout.cache / "prometheus")
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _download(name: str, folder: Path, log: Path) -> None:
    command = ["apt-get", "download", name]
    if _run(command, log, folder) == 0:
        return
    _run(["apt-get", "update"], log)
    if _run(command, log, folder) != 0:
        raise Trouble(
            f"apt-get could not download {name}",
            f"see the end of {log}, put it right and run this again",
        )


def _run(command: Sequence[str], log: Path, folder: Path | None = None) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.run(
            command,
            cwd=folder,
            env=os.environ | _QUIET,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        ).returncode
