"""What runs, and how to reach it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_local.components import FORWARDS, components
from trimtab_local.layout import (
    NODE_NAME,
    PROMETHEUS_NAME,
    PROMETHEUS_PORT,
    REGISTRY_NAME,
    REGISTRY_PORT,
    Layout,
)
from trimtab_local.progress import Progress
from trimtab_local.runtime import Runtime

READY: Final = "ready"
DEAF: Final = "not ready"
DOWN: Final = "down"


@dataclass(frozen=True)
class Row:
    name: str
    state: str
    pid: int | None = None
    memory_mib: int | None = None


def look(layout: Layout) -> list[Row]:
    runtime = Runtime(layout, Progress())
    rows = []
    for component in components(layout):
        running = runtime.table.running(component.name)
        if running is None:
            rows.append(Row(component.name, DOWN))
            continue
        state = READY if runtime.is_ready(component) else DEAF
        rows.append(Row(component.name, state, running.pid, memory_mib(running.pid)))
    forwards = runtime.table.running(FORWARDS)
    if forwards:
        rows.append(Row(FORWARDS, READY, forwards.pid, memory_mib(forwards.pid)))
    else:
        rows.append(Row(FORWARDS, DOWN))
    return rows


def memory_mib(pid: int, proc: Path = Path("/proc")) -> int | None:
    try:
        resident_pages = int((proc / str(pid) / "statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return resident_pages * os.sysconf("SC_PAGE_SIZE") // 1024**2


def as_table(rows: Sequence[Row]) -> str:
    lines = [f"{'COMPONENT':<20}{'STATE':<12}{'PID':>8}{'MIB':>8}"]
    for row in rows:
        pid, memory = _or_dash(row.pid), _or_dash(row.memory_mib)
        lines.append(f"{row.name:<20}{row.state:<12}{pid:>8}{memory:>8}")
    return "\n".join(lines)


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def how_to_reach(layout: Layout) -> str:
    ports = layout.ports
    return f"""
Node        {NODE_NAME}
API server  https://127.0.0.1:{ports.api}
Registry    127.0.0.1:{ports.registry}, in the cluster {REGISTRY_NAME}:{REGISTRY_PORT}
Prometheus  http://127.0.0.1:{ports.prometheus}, in the cluster {PROMETHEUS_NAME}:{PROMETHEUS_PORT}

export KUBECONFIG={layout.kubeconfig}
export PATH={layout.programs}:$PATH"""
