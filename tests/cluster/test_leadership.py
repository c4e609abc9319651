"""Two operators on a real API server: one works, and however it ends the other one takes over."""

import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests import builders
from tests.operatorkit import NOWHERE, Server, eventually
from tests.replicakit import LEASE, Replica, lease_writes, pair, writes

from trimtab_api import names
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.cluster import ApiCluster
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import Conflict
from trimtab_operator.domain.manifests import Manifest

pytestmark = pytest.mark.timeout(180)

Replicas = tuple[Replica, Replica]


@pytest.fixture
def replicas(server: Server, tmp_path: Path) -> Iterator[Replicas]:
    with pair(server, tmp_path) as found:
        yield found
    jobs = server.objects.list_namespaced_custom_object(
        names.GROUP, names.VERSION, server.namespace, "finetunejobs"
    )
    for job in jobs["items"]:
        server.delete("FineTuneJob", job["metadata"]["name"])
    eventually(lambda: not server.children(), what="children are left behind")
    # Who was killed has left it locked.
    server.coordination.delete_namespaced_lease(LEASE, server.namespace)


def a_job(name: str) -> builders.Manifest:
    return builders.pretraining_job(name, pod={"nodeSelector": NOWHERE})


def seconds_until_acted(server: Server, name: str, began: float) -> float:
    """How long after `began` an operator has done what a new job asks for."""
    server.create(a_job(name))
    eventually(lambda: f"Job/{prepare(server, name)}" in server.children(name), seconds=40)
    return time.monotonic() - began


def prepare(server: Server, name: str) -> str:
    found = [j.metadata.name for j in server.jobs(names.PREPARE)]
    return next((j for j in found if j.startswith(f"{name}-")), "")


def holder(server: Server) -> str:
    lease = server.coordination.read_namespaced_lease(LEASE, server.namespace)
    return lease.spec.holder_identity or ""


def test_one_works_and_the_other_is_ready_to(server: Server, replicas: Replicas) -> None:
    leader, standby = replicas
    began = datetime.now(UTC)
    assert (leader.leads, standby.leads) == (True, False)
    assert (leader.is_ready(), standby.is_ready()) == (True, True)
    seconds_until_acted(server, "shared", time.monotonic())
    assert writes(leader, began)
    assert not writes(standby, began)
    assert not lease_writes(standby, began)


def test_after_a_kill_the_other_one_acts_within_25_seconds(
    server: Server, replicas: Replicas
) -> None:
    leader, standby = replicas
    before = holder(server)
    leader.kill()
    assert seconds_until_acted(server, "orphan", time.monotonic()) <= 25
    assert standby.leads
    assert holder(server) not in {"", before}
    lease = server.coordination.read_namespaced_lease(LEASE, server.namespace)
    assert lease.spec.lease_transitions == 1


def test_after_sigterm_the_other_one_acts_within_3_seconds(
    server: Server, replicas: Replicas
) -> None:
    leader, standby = replicas
    began = time.monotonic()
    leader.send(signal.SIGTERM)
    assert seconds_until_acted(server, "handed-over", began) <= 3
    assert standby.leads
    assert leader.exit_code(10) == 0
    leader.start()
    assert not leader.leads
    standby.stop()
    eventually(lambda: leader.leads, seconds=5, what="it does not lead again")


def test_a_standby_that_ends_changes_nothing(server: Server, replicas: Replicas) -> None:
    leader, standby = replicas
    before = holder(server)
    standby.stop()
    assert holder(server) == before
    assert leader.leads
    assert seconds_until_acted(server, "undisturbed", time.monotonic()) <= 3


def test_one_that_was_frozen_begins_no_write_when_it_wakes(
    server: Server, replicas: Replicas
) -> None:
    leader, standby = replicas
    jobs = [f"burst-{n}" for n in range(20)]
    for name in jobs[:15]:
        server.create(a_job(name))
    eventually(lambda: server.jobs(names.PREPARE), what="it never began")
    # Its work comes faster than it can do it, and then it is frozen.
    for name in jobs[15:]:
        server.create(a_job(name))
    leader.send(signal.SIGSTOP)
    frozen = datetime.now(UTC)
    assert len(server.jobs(names.PREPARE)) < len(jobs), "it was to be frozen in the middle"
    time.sleep(20)
    eventually(lambda: standby.leads)
    eventually(lambda: all(prepare(server, name) for name in jobs), seconds=30)
    woken = datetime.now(UTC)
    leader.send(signal.SIGCONT)
    assert leader.exit_code(10) == 1
    assert writes(standby, frozen)
    # It may have been frozen between its last look at the clock and the sending: in one write.
    assert len(writes(leader, woken)) <= 1
    assert lease_writes(leader, woken) == 0
    assert leader.log.count("leadership lost") == 1
    assert standby.leads


def test_a_leader_without_its_api_server_ends_before_its_lease_does(
    server: Server, replicas: Replicas
) -> None:
    leader, standby = replicas
    began, cut = time.monotonic(), datetime.now(UTC)
    leader.wire.cut()
    assert leader.exit_code(15) == 1
    ended = time.monotonic() - began
    assert 7 < ended < 13, "it has to end after its renewals have failed, and before others lead"
    assert not standby.leads
    assert leader.log.count("leadership lost") == 1
    assert seconds_until_acted(server, "cut-off", began) <= 25
    assert writes(leader, cut) == []


# --- what reaches the API server too late ---


@asynccontextmanager
async def two_leaders(server: Server) -> AsyncIterator[tuple[ApiCluster, ApiCluster, FineTuneJob]]:
    """An old leader and a new one, who both know the same child of the same job."""
    server.create(a_job("owner"))
    owner = FineTuneJob.model_validate(server.get("FineTuneJob", "owner"))
    api = await Api.connect(server.kubeconfig)
    old, new = (ApiCluster(api, Store(), Telemetry(), SystemClock()) for _ in range(2))
    try:
        child = await old.apply(a_child(server, "at first"), owner)
        new.store.put("ConfigMap", child)
        yield old, new, owner
    finally:
        await api.close()
        server.delete("FineTuneJob", "owner")
        eventually(lambda: not server.children(), what="children are left behind")


def a_child(server: Server, said: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "child",
            "namespace": server.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        "data": {"said": said},
    }


async def test_a_late_apply_does_not_undo_what_the_new_leader_applied(server: Server) -> None:
    async with two_leaders(server) as (old, new, owner):
        await new.apply(a_child(server, "the new leader"), owner)
        with pytest.raises(Conflict):
            await old.apply(a_child(server, "the old leader"), owner)
        there = server.core.read_namespaced_config_map("child", server.namespace)
        assert there.data == {"said": "the new leader"}


async def test_a_late_apply_does_not_bring_back_what_the_new_leader_deleted(
    server: Server,
) -> None:
    async with two_leaders(server) as (old, new, owner):
        (child,) = new.store.all("ConfigMap")
        await new.delete(child)
        with pytest.raises(Conflict):
            await old.apply(a_child(server, "the old leader"), owner)
        assert not server.children()


async def test_a_late_deletion_does_not_take_what_the_new_leader_applied(server: Server) -> None:
    async with two_leaders(server) as (old, new, owner):
        (child,) = old.store.all("ConfigMap")
        await new.apply(a_child(server, "the new leader"), owner)
        with pytest.raises(Conflict):
            await old.delete(child)
        assert server.children() == ["ConfigMap/child"]


async def test_late_status_and_finalizers_do_not_undo_the_new_leaders(server: Server) -> None:
    async with two_leaders(server) as (old, new, owner):
        later = owner.status.model_copy(update={"attempt": 2})
        await new.write_status(owner, later)
        with pytest.raises(Conflict):
            await old.write_status(owner, owner.status.model_copy(update={"attempt": 1}))
        with pytest.raises(Conflict):
            await old.write_finalizers(owner, ["trimtab.dev/tests"])
        there = server.get("FineTuneJob", "owner")
        assert there["status"]["attempt"] == 2
        assert "finalizers" not in there["metadata"]
