"""Takes away what processes leave behind: mounts, cgroups, links, kernel settings.

Works on what is found, not on what should be there, so that it mends a crash at
any moment as well as an orderly end.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trimtab_local.inside import accepts
from trimtab_local.layout import Layout

_CGROUPS: Final = Path("/sys/fs/cgroup")
_LEGACY_LINKS: Final = Path("/var/log/containers")
_CNI_RESULTS: Final = Path("/var/lib/cni/results")
_DEVICE_SOCKET: Final = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
_FIXED_PLACES: Final = (
    "run/containerd/s",
    "usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "var/lib/cni/results",
    "var/lib/kubelet/device-plugins",
    "var/log/containers",
)
_SYSTEM_FOLDERS: Final = ("run", "libexec", "lib", "log")
_ESCAPES: Final = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}
_ATTEMPTS: Final = 40
_PAUSE_SECONDS: Final = 0.05
# The kubelet changes these for the whole machine and puts none of them back.
KERNEL_SETTINGS: Final = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def mounts_below(folders: tuple[Path, ...], table: str) -> list[Path]:
    """Mount points in the folders, the innermost first, from /proc/self/mountinfo."""
    found = []
    for line in table.splitlines():
        point = line.split(" ")[4]
        for escape, character in _ESCAPES.items():
            point = point.replace(escape, character)
        path = Path(point)
        if any(path.is_relative_to(folder) for folder in folders):
            found.append(path)
    return list(reversed(found))


def unmount(layout: Layout) -> None:
    """Unmounts all below the state; repeats, since mounts may lie over each other."""
    for _ in range(_ATTEMPTS):
        table = Path("/proc/self/mountinfo").read_text()
        points = mounts_below((layout.home, layout.run), table)
        if not points:
            return
        for point in points:
            # Lazily: a file still open in a dying process must not hold up the rest.
            subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


def cgroup_folders(name: str, root: Path = _CGROUPS) -> list[Path]:
    """Ours in each hierarchy: one with cgroup v2, one per controller with v1."""
    candidates = [root / name, *(entry / name for entry in _folders(root))]
    return [folder for folder in candidates if folder.is_dir()]


def _folders(root: Path) -> Iterator[Path]:
    """Without links: v1 has several names for one hierarchy."""
    if root.is_dir():
        yield from (entry for entry in root.iterdir() if entry.is_dir() and not entry.is_symlink())


def make_cgroups(name: str, root: Path = _CGROUPS) -> None:
    """The kubelet wants the group that its pods go into to be there already."""
    if (root / "cgroup.controllers").exists():
        (root / name).mkdir(exist_ok=True)
        return
    for hierarchy in _folders(root):
        (hierarchy / name).mkdir(exist_ok=True)


def kill_contained(name: str, root: Path = _CGROUPS) -> int:
    """Kills what still runs in our cgroups; says how many processes that were."""
    killed = set()
    for _ in range(_ATTEMPTS):
        alive = {pid for folder in cgroup_folders(name, root) for pid in _processes_in(folder)}
        if not alive:
            break
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= alive
        time.sleep(_PAUSE_SECONDS)
    return len(killed)


def _processes_in(folder: Path) -> Iterator[int]:
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            for line in (Path(place) / "cgroup.procs").read_text().split():
                if int(line) > 0:
                    yield int(line)


def remove_cgroups(name: str, root: Path = _CGROUPS) -> None:
    for folder in cgroup_folders(name, root):
        for _ in range(_ATTEMPTS):
            if _remove_group(folder):
                break
            time.sleep(_PAUSE_SECONDS)  # the kernel empties a group a little after its last process


def _remove_group(folder: Path) -> bool:
    """Groups are removed from the innermost out; the files in them are not real."""
    done = True
    for place, _, _ in os.walk(folder, topdown=False):
        try:
            Path(place).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            done = False
    return done


def remove_log_links(layout: Layout, folder: Path = _LEGACY_LINKS) -> None:
    """The kubelet also links each container's log under a fixed place of the host."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_symlink() and entry.readlink().is_relative_to(layout.pod_logs):
                entry.unlink()


def remove_pod_addresses(layout: Layout, folder: Path = _CNI_RESULTS) -> None:
    """Of pods that no runtime took off the network; each file names its namespace."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if str(layout.run) in entry.read_text(errors="replace"):
                entry.unlink()


def remove_device_socket(path: Path = _DEVICE_SOCKET) -> None:
    """The kubelet's, at a place fixed for all kubelets: another one may listen there."""
    if path.exists() and not accepts(path):
        path.unlink()


def remove_empty_folders(root: Path = Path("/")) -> None:
    """Those that our programs make at fixed places; one in use is not empty, and stays."""
    for place in _FIXED_PLACES:
        folder = root / place
        for step in (folder, *folder.parents):
            if step.name in _SYSTEM_FOLDERS:
                break
            with contextlib.suppress(OSError):
                step.rmdir()


def save_kernel_settings(layout: Layout, proc: Path = Path("/proc/sys")) -> None:
    """Once per start of the cluster: a second look would see the kubelet's own values."""
    file = layout.run / "kernel-settings.json"
    if not file.exists():
        values = {
            name: (proc / name).read_text().strip()
            for name in KERNEL_SETTINGS
            if (proc / name).exists()
        }
        file.write_text(json.dumps(values))


def restore_kernel_settings(layout: Layout, proc: Path = Path("/proc/sys")) -> None:
    file = layout.run / "kernel-settings.json"
    if not file.exists():
        return
    for name, value in json.loads(file.read_text()).items():
        if (proc / name).read_text().strip() != value:
            (proc / name).write_text(value)
    file.unlink()
