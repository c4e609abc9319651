"""The routing table is gone, by somebody's hand: what was served stays served."""

from typing import Any

import pytest
from tests.fakes import FakeWorld, settle
from tests.servicelife import KEY, loaded, seen, serving, table, weights
from tests.servingbuilders import NAMESPACE, a_ready_version, digest_of, uri_of

from trimtab_api.routing import AdapterState, AgentReport
from trimtab_operator.reconcilers.inferenceservice import reconcile

ROUTING = ("ConfigMap", (NAMESPACE, "chat-routing"))
VERSION = ("ModelVersion", (NAMESPACE, "bot-1"))


async def wanting(version: str, *objects: Any) -> FakeWorld:
    """bot is answered by bot-1, and another version is wanted that cannot be served yet."""
    fake = await serving(*objects)
    models = [{"name": "bot", "version": {"name": version}}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await settle(reconcile, KEY, fake)
    assert weights(fake)["bot-1"] == 100
    return fake


async def lose(fake: FakeWorld, lost: str = "taken") -> None:
    """Somebody takes the table away, and the operator comes round."""
    if lost == "taken":
        fake.cluster.take_away(*ROUTING)
    else:
        fake.cluster.edit(*ROUTING, {"data": {"table.json": lost}})
    await settle(reconcile, KEY, fake)


def served(fake: FakeWorld) -> dict[str, Any]:
    """The version that has the requests, as the new table names it."""
    (bot,) = [m for m in table(fake).models if m.name == "bot"]
    (version,) = [v for v in bot.versions if v.weight > 0]
    return version.model_dump()


@pytest.mark.parametrize("lost", ["taken", "", "{"], ids=["taken", "emptied", "garbled"])
@pytest.mark.parametrize("wanted", ["bot-2", "nobody"], ids=["still loading", "missing"])
async def test_a_lost_table_takes_nothing_away(wanted: str, lost: str) -> None:
    fake = await wanting(wanted, a_ready_version("bot-2"))
    before = served(fake)
    await lose(fake, lost)
    assert served(fake) == before
    assert {m.name: m.active_version for m in seen(fake).status.models}["bot"] == "bot-1"


async def test_a_lost_table_holds_no_new_version_up() -> None:
    fake = await wanting("bot-2", a_ready_version("bot-2"))
    await lose(fake)
    loaded(fake, "bot-1", "bot-2")
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}


async def test_a_lost_table_is_remembered_before_engines_have_said_a_word() -> None:
    fake = await wanting("nobody")
    before = served(fake)
    fake.agents.reports.clear()
    await lose(fake)
    assert served(fake) == before


async def test_of_two_artifacts_under_one_name_the_one_that_engines_hold_is_recalled() -> None:
    fake = await wanting("bot-1")
    fake.cluster.take_away(*VERSION)
    version = a_ready_version("bot-1")
    artifact = version.spec.artifact.model_copy(update={"uri": uri_of("another")})
    spec = version.spec.model_copy(update={"artifact": artifact})
    fake.cluster.add(version.model_copy(update={"spec": spec}))
    await lose(fake)
    assert served(fake)["digest"] == digest_of("bot-1")
    (bot,) = [m for m in table(fake).models if m.name == "bot"]
    assert [v.digest for v in bot.versions] == [digest_of("bot-1"), digest_of("another")]


async def test_what_engines_hold_is_recalled_although_its_version_was_taken_too() -> None:
    fake = await wanting("nobody")
    fake.cluster.take_away(*VERSION)
    await lose(fake)
    assert (served(fake)["version"], served(fake)["digest"]) == ("bot-1", digest_of("bot-1"))


async def test_nobody_is_recalled_whom_neither_a_version_nor_an_engine_knows() -> None:
    fake = await wanting("nobody")
    fake.cluster.take_away(*VERSION)
    loaded(fake)
    await lose(fake)
    assert weights(fake) == {}


async def test_what_is_held_more_often_counts_and_in_doubt_the_version_that_is_there() -> None:
    fake = await wanting("nobody")
    both = [
        AdapterState(version="bot-1", digest=digest_of(name), state="Loaded")
        for name in ("another", "bot-1")
    ]
    report = AgentReport(sequence=2, engine_ready=True, adapters=both)
    fake.agents.reports["10.0.0.1:8000"] = report
    await lose(fake)
    assert served(fake)["digest"] == digest_of("bot-1")
