"""What a Prometheus hands out: counters as they were scraped, with their labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab_operator.domain.analysis.counters import Sample


@dataclass(frozen=True)
class RawSeries:
    """One series and its samples, each at the time of its scrape."""

    labels: Mapping[str, str]
    samples: tuple[Sample, ...] = ()

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.labels.get("__name__", "")
