"""The agent's own metrics, which stand behind the engine's in one exposition."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LOAD_BUCKETS: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 15, 60)


class AgentMetrics:
    """In a registry without process metrics: the engine's exposition has those names already."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.loads = Counter(
            "trimtab_agent_loads",
            "Loads by result: Loaded, or the reason of the failure.",
            ("result",),
            registry=self.registry,
        )
        self.load_seconds = Histogram(
            "trimtab_agent_load_seconds",
            "From the begin of a load to its verification.",
            buckets=LOAD_BUCKETS,
            registry=self.registry,
        )
        self.engine_starts = Counter(
            "trimtab_agent_engine_starts",
            "How often the engine has become ready.",
            registry=self.registry,
        )
        self._adapters = Gauge(
            "trimtab_agent_adapters",
            "Versions in the table by their state in this engine.",
            ("state",),
            registry=self.registry,
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(f"trimtab_agent_{name}", help_text, registry=self.registry).set_function(value)

    def set_adapters(self, counts: dict[str, int]) -> None:
        for state in ("Pending", "Loading", "Loaded", "Failed"):
            self._adapters.labels(state).set(counts.get(state, 0))

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
