"""Whether a Dataset can be used by others now, and what its own references to others mean."""

from collections.abc import Mapping

from trimtab_api.reasons import DatasetReason
from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.common import ConditionStatus
from trimtab_api.v1alpha1.dataset import HeldOutData
from trimtab_operator.domain.dataset.status import has_verdict, readiness
from trimtab_operator.domain.finding import Finding


def not_ready(name: str, dataset: Dataset | None) -> str | None:
    """Why the data cannot be used yet, in words that follow its name; None when it can."""
    if dataset is None:
        return f"Dataset {name} does not exist in this namespace"
    ready = readiness(dataset)
    if ready is None:
        return f"Dataset {name} is not Ready: its present spec has not been prepared yet"
    if ready.status is not ConditionStatus.TRUE:
        return f"Dataset {name} is not Ready: {ready.message}"
    return None


def held_out(
    dataset: Dataset, others: Mapping[str, Dataset | None]
) -> tuple[HeldOutData, ...] | Finding:
    """What leakage.against means now; what is not Ready is waited for, unless it waits for this one."""
    if dataset.spec.leakage is None:
        return ()
    if circle := _circle(dataset, others):
        return Finding(
            DatasetReason.CIRCULAR,
            f"leakage.against: {' waits for '.join(circle)}, so that none of them can ever begin; remove one of "
            "these references, or name prepared data by its uri",
        )
    found: list[HeldOutData] = []
    for reference in dataset.spec.leakage.against:
        if reference.uri is not None:
            found.append(HeldOutData(uri=reference.uri))
            continue
        name = reference.dataset.name if reference.dataset else ""
        other = others.get(name)
        problem = not_ready(name, other)
        if problem is not None or other is None or other.status.artifact is None:
            return Finding.unknown(
                DatasetReason.HELD_OUT_NOT_READY, f"leakage.against: {problem or name}"
            )
        found.append(HeldOutData(dataset=name, uri=other.status.artifact))
    return tuple(found)


def named_by(dataset: Dataset) -> list[str]:
    """The Datasets whose held-out records it must not learn, each once."""
    leakage = dataset.spec.leakage
    found = (each.dataset.name for each in leakage.against if each.dataset) if leakage else ()
    return list(dict.fromkeys(found))


def waits_for(dataset: Dataset) -> list[str]:
    """Those without which its preparation cannot begin; nobody, once it has begun or is over."""
    status = dataset.status
    is_frozen = bool(status.held_out) and status.observed_generation == dataset.metadata.generation
    return [] if is_frozen or has_verdict(dataset) else named_by(dataset)


def _circle(dataset: Dataset, others: Mapping[str, Dataset | None]) -> list[str]:
    """The way from this Dataset back to itself over those that wait; the shortest, or none."""
    myself = dataset.metadata.name
    ways = [[myself, name] for name in named_by(dataset)]
    seen: set[str] = set()
    for way in ways:  # it grows while it is read
        last = way[-1]
        if last == myself:
            return way
        there = others.get(last)
        if last not in seen and there is not None:
            seen.add(last)
            ways += [[*way, name] for name in waits_for(there)]
    return []
