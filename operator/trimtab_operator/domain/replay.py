"""What would have happened when: a policy of drift over recorded counters, look by look.

The very functions that decide on live traffic are called with the time of the recording.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite, log
from typing import Final

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.common import ObjectMeta
from trimtab_api.v1alpha1.drift import Drift
from trimtab_api.v1alpha1.inferenceservice import ServedModel, VersionSelector
from trimtab_api.v1alpha1.modelversion import Artifact, ArtifactKind, ModelVersionSpec
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.analysis.drift import Watch
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.inferenceservice import drift
from trimtab_operator.domain.series import RawSeries

_DIGEST: Final = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Look:
    """What one look would have found."""

    time: datetime
    evidence: float | None
    psi: float | None
    reason: str
    message: str


@dataclass(frozen=True)
class Replay:
    """All looks, and what would have been said at each change."""

    model: str
    version: str
    alarm_at: float
    looks: tuple[Look, ...]

    @property
    def changes(self) -> tuple[Look, ...]:
        """The looks at which something else would have been said."""
        before = (None, *(look.reason for look in self.looks))
        pairs = zip(self.looks, before, strict=False)
        return tuple(look for look, said in pairs if look.reason != said)


def recorded(answer: object) -> tuple[RawSeries, ...]:
    """The series in an answer of Prometheus's query API, of the form matrix."""
    data = answer.get("data", answer) if isinstance(answer, Mapping) else None
    if not isinstance(data, Mapping) or data.get("resultType") != "matrix":
        raise ValueError("it is no answer of the form matrix, as a range selector gives it")
    found = []
    for each in data.get("result", []):
        samples = tuple(Sample(float(t), float(v)) for t, v in each["values"])
        found.append(RawSeries({str(k): str(v) for k, v in each["metric"].items()}, samples))
    return tuple(found)


def pairs(series: Iterable[RawSeries]) -> list[tuple[str, str]]:
    """The models and versions that something was counted of."""
    found = {(s.labels.get("model", ""), s.labels.get("version", "")) for s in series}
    return sorted(pair for pair in found if all(pair))


def replay(policy: Drift, model: str, version: str, series: Sequence[RawSeries]) -> Replay:
    """What the policy would have said of one version's traffic."""
    mine = [
        s for s in series if (s.labels.get("model"), s.labels.get("version")) == (model, version)
    ]
    watched = _watched(policy, model, version)
    memory = drift.Memory(Watch(watched.digest, drift.beginning(policy, None)))
    looks = []
    for now in _moments(mine):
        window = _window(mine, drift.asked_from(memory, now), now)
        memory = drift.looked(memory, watched, window, now)
        told = drift.told(watched, memory, None, None, now)
        evidence = memory.watch.state.log_evidence
        looks.append(
            Look(now, evidence if isfinite(evidence) else None, told.psi, told.reason, told.message)
        )
    return Replay(model, version, log(policy.requests_per_false_alarm), tuple(looks))


def lines(found: Replay) -> Iterator[str]:
    """For people: each change, and when."""
    yield f"{found.model}, {found.version}: {len(found.looks)} looks"
    for look in found.changes:
        yield f"  {timestamp(look.time)}  {look.reason}: {look.message}"


def _watched(policy: Drift, model: str, version: str) -> drift.Watched:
    # Names of a recording are anybody's, and nothing is made of them.
    served = ServedModel.model_construct(name=model, version=VersionSelector.model_construct())
    artifact = Artifact.model_construct(uri=f"oci://replay@{_DIGEST}", kind=ArtifactKind.ADAPTER)
    content = ModelVersion.model_construct(
        metadata=ObjectMeta.model_construct(name=version),
        spec=ModelVersionSpec.model_construct(model=model, artifact=artifact),
    )
    return drift.Watched(served, policy, content)


def _moments(series: Sequence[RawSeries]) -> Iterator[datetime]:
    times = [sample.time for one in series for sample in one.samples]
    if not times:
        return
    now, last = datetime.fromtimestamp(min(times), UTC), datetime.fromtimestamp(max(times), UTC)
    while now < last + drift.EVERY:
        now += drift.EVERY
        yield now


def _window(series: Sequence[RawSeries], start: datetime, end: datetime) -> list[RawSeries]:
    first, last = start.timestamp(), end.timestamp()
    return [
        RawSeries(s.labels, tuple(x for x in s.samples if first < x.time <= last)) for s in series
    ]
