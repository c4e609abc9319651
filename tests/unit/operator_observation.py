"""What is worth saying of pods that do not run yet."""

from datetime import timedelta

import pytest
from tests.fakes import START

from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.observation import obstacle, settles_in

UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
MISMATCH = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
SHORT = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
SECONDS = timedelta(seconds=1)


def unscheduled(message: str, since: str | None, reason: str = "Unschedulable") -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    times = {} if since is None else {"lastTransitionTime": since}
    return {"status": {"phase": "Pending", "conditions": [{**condition, **times}]}}


@pytest.mark.parametrize(
    ("message", "age"),
    [
        pytest.param(SHORT, 0, id="something is short, however young the word is"),
        pytest.param(UNBOUND, 5, id="a volume is not bound for seconds"),
        pytest.param(MISMATCH, 60, id="no node fits for a minute"),
        pytest.param(MISMATCH, None, id="nobody knows since when no node fits"),
    ],
)
def test_a_pod_that_cannot_be_placed_is_told_when(message: str, age: int | None) -> None:
    since = None if age is None else timestamp(START - age * SECONDS)
    pods = [unscheduled(message, since)]
    found = obstacle(pods, START)
    assert found is not None
    assert found.reason == "Unschedulable"
    assert message in found.message
    assert settles_in(pods, START) is None


@pytest.mark.parametrize("reason", ["Unschedulable", "SchedulerError"])
def test_a_volume_that_is_just_being_bound_is_no_trouble_but_looked_at_again(reason: str) -> None:
    pods = [unscheduled(UNBOUND, timestamp(START - 2 * SECONDS), reason)]
    assert obstacle(pods, START) is None
    assert settles_in(pods, START) == 3 * SECONDS


def test_the_pod_that_settles_first_is_looked_at_first() -> None:
    young, old = (unscheduled(UNBOUND, timestamp(START - n * SECONDS)) for n in (1, 4))
    running: Manifest = {"status": {"phase": "Running"}}
    assert settles_in([young, running, old], START) == SECONDS
    assert settles_in([running], START) is None
