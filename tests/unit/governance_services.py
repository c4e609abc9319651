"""What a service does with versions that nobody has approved, or that were revoked or retired."""

from typing import Any

from tests.fakes import FakeWorld, settle
from tests.servicelife import (
    BOT,
    KEY,
    answers,
    loaded,
    message,
    seen,
    serving,
    table,
    told,
    weights,
    world_of,
)
from tests.servingbuilders import (
    NAMESPACE,
    a_ready_version,
    a_service,
    condition,
    ready_status,
    uri_of,
)

from trimtab_operator.domain.inferenceservice.routing import active_version
from trimtab_operator.domain.policy import NamespacePolicy
from trimtab_operator.reconcilers.inferenceservice import reconcile

ASKS = NamespacePolicy(requires_approval=True)
WANTS_SIGNATURES = NamespacePolicy(requires_signature=True)
LATEST = {"bot": {"latestOf": "bot"}}
APPROVED = condition("Approved")
REVOKED = condition("Approved", "False", "Revoked", "approval revoked by bob: wrong prices")
RETIRED = condition("Retired", message="retired by bob: too old")


def a_version_with(*conditions: dict[str, Any], name: str = "bot-2", **more: Any) -> Any:
    status = ready_status(None if more.get("kind") == "Full" else "base")
    status["conditions"] += conditions
    return a_ready_version(name, status=status, **more)


def decided(fake: FakeWorld, name: str, *conditions: dict[str, Any]) -> None:
    """Other decisions about a version than before."""
    changed = a_version_with(*conditions, name=name).to_wire()["status"]
    fake.cluster.edit("ModelVersion", (NAMESPACE, name), {"status": changed})


def asks(fake: FakeWorld) -> FakeWorld:
    fake.cluster.policies[NAMESPACE] = ASKS
    return fake


def names(fake: FakeWorld, version: str) -> None:
    models = [{"name": "bot", "version": {"name": version}}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})


def is_served_by(fake: FakeWorld) -> str:
    found = active_version(next(m for m in table(fake).models if m.name == "bot"))
    assert found is not None
    return found.version


# --- a namespace that asks for approval ----------------------------------------------------------


async def test_a_version_that_nobody_approved_is_not_even_loaded() -> None:
    fake = asks(world_of(a_service(models=BOT), a_ready_version("bot-1")))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {}
    assert told(fake, "AdaptersReady") == ("False", "VersionNotApproved")
    assert "ask for a Decision with action Approve" in message(fake, "AdaptersReady")


async def test_an_approval_is_enough() -> None:
    fake = asks(world_of(a_service(models=BOT), a_version_with(APPROVED, name="bot-1")))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 0}


async def test_a_name_that_is_moved_to_a_version_without_approval_keeps_the_one_before() -> None:
    fake = asks(await serving(a_version_with(REVOKED)))
    decided(fake, "bot-1", APPROVED)
    names(fake, "bot-2")
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("False", "VersionNotApproved")
    assert "approval revoked by bob: wrong prices" in message(fake)


async def test_the_newest_approved_version_is_followed() -> None:
    newest = a_version_with(name="bot-3", creationTimestamp="2026-01-03T00:00:00Z")
    second = a_version_with(APPROVED, creationTimestamp="2026-01-02T00:00:00Z")
    fake = asks(
        world_of(a_service(models=LATEST), a_version_with(APPROVED, name="bot-1"), second, newest)
    )
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-2": 0}


async def test_a_revoked_version_goes_on_while_there_is_nothing_else_and_says_so() -> None:
    fake = asks(await serving(models=LATEST))
    decided(fake, "bot-1", REVOKED)
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("False", "VersionNotApproved")
    (said,) = {e.type for e in fake.cluster.events.values() if e.reason == "VersionNotApproved"}
    assert said == "Warning"


async def test_a_revoked_version_leaves_for_an_older_one_that_is_approved() -> None:
    older = a_version_with(APPROVED, name="bot-0", creationTimestamp="2025-12-01T00:00:00Z")
    fake = asks(await serving(older, models=LATEST))
    decided(fake, "bot-1", REVOKED)
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100, "bot-0": 0}, "it answers until the other one can"
    loaded(fake, "bot-1", "bot-0")
    answers(fake, bot="bot-0")
    await settle(reconcile, KEY, fake)
    assert is_served_by(fake) == "bot-0"
    assert told(fake) == ("True", "Ready")


async def test_a_revoked_version_is_no_way_back() -> None:
    fake = asks(await serving(a_version_with(APPROVED)))
    decided(fake, "bot-1", APPROVED)
    names(fake, "bot-2")
    loaded(fake, "bot-1", "bot-2")
    answers(fake, bot="bot-2")
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    decided(fake, "bot-1", REVOKED)
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-2": 100}


async def test_where_nobody_asks_a_revocation_takes_nothing_away() -> None:
    fake = await serving()
    decided(fake, "bot-1", REVOKED)
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("True", "Ready")


async def test_a_base_needs_an_approval_of_its_own() -> None:
    base = {"name": "tiny", "modelVersion": {"name": "base-1"}}
    version = a_version_with(name="base-1", model="base", kind="Full")
    fake = asks(world_of(a_service(base=base), version))
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("False", "VersionNotApproved")
    assert fake.cluster.of_kind("Deployment") == []


async def test_a_base_that_is_revoked_goes_on_and_says_so() -> None:
    base = {"name": "tiny", "modelVersion": {"name": "base-1"}}
    version = a_version_with(APPROVED, name="base-1", model="base", kind="Full")
    fake = asks(world_of(a_service(base=base), version))
    await settle(reconcile, KEY, fake)
    assert len(fake.cluster.of_kind("Deployment")) == 2
    changed = a_version_with(REVOKED, name="base-1", model="base", kind="Full").to_wire()
    fake.cluster.edit("ModelVersion", (NAMESPACE, "base-1"), {"status": changed["status"]})
    await settle(reconcile, KEY, fake)
    assert len(fake.cluster.of_kind("Deployment")) == 2
    assert told(fake, "AdaptersReady") == ("False", "VersionNotApproved")


# --- retired versions ----------------------------------------------------------------------------


async def test_a_retired_version_is_not_newly_served() -> None:
    fake = await serving(a_version_with(RETIRED))
    names(fake, "bot-2")
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("False", "VersionRetired")
    assert "name another version" in message(fake)


async def test_a_retired_version_that_is_served_goes_on_and_is_told() -> None:
    fake = await serving()
    decided(fake, "bot-1", RETIRED)
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("True", "Ready")
    (bot,) = (m for m in seen(fake).status.models if m.name == "bot")
    assert bot.message == "ModelVersion bot-1 is retired (retired by bob: too old)"


async def test_it_goes_on_when_the_table_is_lost() -> None:
    fake = await serving()
    decided(fake, "bot-1", RETIRED)
    await settle(reconcile, KEY, fake)
    fake.cluster.take_away("ConfigMap", (NAMESPACE, "chat-routing"))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}


async def test_a_service_that_follows_a_model_skips_what_was_retired() -> None:
    newest = a_version_with(RETIRED, creationTimestamp="2026-01-02T00:00:00Z")
    fake = await serving(newest, models=LATEST)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("True", "Ready")


async def test_and_stays_with_what_serves_it_until_there_is_a_newer_one() -> None:
    older = a_version_with(name="bot-0", creationTimestamp="2025-12-01T00:00:00Z")
    fake = await serving(older, models=LATEST)
    decided(fake, "bot-1", RETIRED)
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    fake.cluster.add(a_version_with(creationTimestamp="2026-02-01T00:00:00Z"))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}


async def test_a_retired_base_is_not_taken_up() -> None:
    base = {"name": "tiny", "modelVersion": {"name": "base-1"}}
    version = a_version_with(RETIRED, name="base-1", model="base", kind="Full")
    fake = world_of(a_service(base=base), version)
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("False", "VersionRetired")
    assert fake.cluster.of_kind("Deployment") == []


async def test_a_base_from_elsewhere_needs_nobodys_word() -> None:
    fake = asks(world_of(a_service(base={"name": "tiny", "uri": uri_of("base")})))
    await settle(reconcile, KEY, fake)
    assert len(fake.cluster.of_kind("Deployment")) == 2


# --- a namespace that asks for signatures ---------------------------------------------------------

SIGNED = condition("Signed")
UNKNOWN_KEY = condition("Signed", "False", "SignerUnknown", "the key ab12 is not trusted")


def wants_signatures(fake: FakeWorld) -> FakeWorld:
    fake.cluster.policies[NAMESPACE] = WANTS_SIGNATURES
    return fake


async def test_a_version_without_a_signature_is_not_even_loaded() -> None:
    fake = wants_signatures(world_of(a_service(models=BOT), a_ready_version("bot-1")))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {}
    assert told(fake, "AdaptersReady") == ("False", "VersionNotSigned")
    assert "create one with spec.signing" in message(fake, "AdaptersReady")


async def test_a_signature_is_enough_and_says_nothing_of_approval() -> None:
    fake = wants_signatures(world_of(a_service(models=BOT), a_version_with(SIGNED, name="bot-1")))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 0}
    both = NamespacePolicy(requires_approval=True, requires_signature=True)
    fake = world_of(a_service(models=BOT), a_version_with(SIGNED, name="bot-1"))
    fake.cluster.policies[NAMESPACE] = both
    await settle(reconcile, KEY, fake)
    assert told(fake, "AdaptersReady") == ("False", "VersionNotApproved")


async def test_why_a_signature_is_none_is_said() -> None:
    fake = wants_signatures(
        world_of(a_service(models=BOT), a_version_with(UNKNOWN_KEY, name="bot-1"))
    )
    await settle(reconcile, KEY, fake)
    assert "is not signed (the key ab12 is not trusted)" in message(fake, "AdaptersReady")


async def test_the_newest_signed_version_is_followed() -> None:
    newest = a_version_with(name="bot-2", creationTimestamp="2026-01-02T00:00:00Z")
    fake = wants_signatures(
        world_of(a_service(models=LATEST), a_version_with(SIGNED, name="bot-1"), newest)
    )
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 0}


async def test_what_was_served_when_the_namespace_began_to_ask_goes_on_and_says_so() -> None:
    fake = wants_signatures(await serving())
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("False", "VersionNotSigned")


async def test_a_base_of_ours_is_to_be_signed_as_well() -> None:
    service = a_service(base={"name": "tiny", "modelVersion": {"name": "base-1"}})
    fake = wants_signatures(
        world_of(service, a_version_with(name="base-1", model="base", kind="Full"))
    )
    await settle(reconcile, KEY, fake)
    assert not fake.cluster.of_kind("Deployment")
    assert told(fake, "EngineReady") == ("False", "VersionNotSigned")
    fake = wants_signatures(
        world_of(service, a_version_with(SIGNED, name="base-1", model="base", kind="Full"))
    )
    await settle(reconcile, KEY, fake)
    assert fake.cluster.of_kind("Deployment")
