"""Whether a Dataset can be used by others now, and what its own references to others mean."""

from collections.abc import Mapping

from trimtab_api.reasons import DatasetReason
from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.common import ConditionStatus
from trimtab_api.v1alpha1.dataset import HeldOutData
from trimtab_operator.domain.dataset.status import readiness
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
    """What leakage.against means now; what is not Ready is waited for."""
    if dataset.spec.leakage is None:
        return ()
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
