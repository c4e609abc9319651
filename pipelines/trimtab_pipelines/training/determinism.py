"""The same numbers from the same spec.

Sums of floats depend on how they are divided among threads, so the number of threads is part of a
run: it is chosen once, kept on the job's volume and used again wherever the run goes on.
"""

import ctypes
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch

THREADS_VARIABLE = "TRIMTAB_THREADS"
_CGROUP = Path("/sys/fs/cgroup")
# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = 2**31 - 1


def threads_of_run(volume: Path, available: Callable[[], int]) -> int:
    """The number of threads of this run: what it began with, else what there is."""
    file = volume / "threads"
    if file.exists():
        return int(file.read_text())
    threads = int(os.environ.get(THREADS_VARIABLE) or available())
    volume.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(str(threads))
    part.replace(file)
    return threads


def available_threads(cgroup: Path = _CGROUP) -> int:
    """CPUs that the container may use: its limit, else all that it is allowed to run on."""
    allowed = len(os.sched_getaffinity(0))
    limit = _cpu_limit(cgroup)
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))


def _cpu_limit(cgroup: Path) -> float | None:
    unified = cgroup / "cpu.max"
    if unified.exists():
        quota, _, period = unified.read_text().strip().partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    quota_file = cgroup / "cpu" / "cpu.cfs_quota_us"
    if not quota_file.exists():
        return None
    quota_us = int(quota_file.read_text())
    period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    return None if quota_us <= 0 else quota_us / period_us


def fix_numbers(seed: int, threads: int) -> None:
    """Make torch repeat itself. Called before any tensor is made."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    # On a GPU a few kernels have no deterministic form; they warn instead of ending the run.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # It fills memory that nobody reads before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by torch at run time
    # Tiny moments of AdamW would otherwise fall into the slow path of the processor.
    torch.set_flush_denormal(True)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library reuse big blocks: giving each back to the kernel costs page faults."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _NEVER)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
