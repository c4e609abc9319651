"""InferenceService: its way in from outside, and what an earlier choice of the chart has left."""

from collections.abc import Callable

from tests.fakes import FakeWorld, settings, settle
from tests.servicelife import KEY, message, told, world_of
from tests.servingbuilders import NAMESPACE, a_service

from trimtab_operator.domain.errors import Conflict, Forbidden
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.outcome import Retry
from trimtab_operator.reconcilers.inferenceservice import reconcile
from trimtab_operator.settings import Exposure, ExposureKind

KINDS = [kind for kind in ExposureKind if kind is not ExposureKind.NONE]


def exposed_by(fake: FakeWorld, kind: ExposureKind) -> None:
    """The chart was installed with this kind of exposure."""
    exposure = Exposure(kind=kind, host="{name}.example.com", parent_ref="infra/front")
    fake.settings = settings(exposure=exposure)


async def exposed(kind: ExposureKind) -> FakeWorld:
    fake = world_of(a_service())
    exposed_by(fake, kind)
    await settle(reconcile, KEY, fake)
    assert ways_in(fake) == [kind]
    return fake


def ways_in(fake: FakeWorld) -> list[str]:
    return [kind for kind in KINDS if fake.cluster.of_kind(kind)]


async def test_another_choice_of_the_chart_replaces_what_the_one_before_has_made() -> None:
    fake = await exposed(ExposureKind.INGRESS)
    for kind in (ExposureKind.HTTP_ROUTE, ExposureKind.ROUTE, ExposureKind.INGRESS):
        exposed_by(fake, kind)
        await settle(reconcile, KEY, fake)
        assert ways_in(fake) == [kind]
    exposed_by(fake, ExposureKind.NONE)
    await settle(reconcile, KEY, fake)
    assert ways_in(fake) == []


async def test_the_old_way_in_goes_also_while_the_base_is_not_known() -> None:
    fake = await exposed(ExposureKind.INGRESS)
    exposed_by(fake, ExposureKind.NONE)
    base = {"name": "tiny", "modelVersion": {"name": "nowhere"}}
    changes = {"spec": {"baseModel": {**base, "uri": None}}, "status": None}
    fake.cluster.edit("InferenceService", KEY, changes)
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "BaseMissing")
    assert ways_in(fake) == []


async def test_a_way_in_that_somebody_else_has_made_is_left_alone() -> None:
    fake = world_of(a_service())
    metadata = {"name": "chat", "namespace": NAMESPACE}
    fake.cluster.add({"kind": "Ingress", "metadata": metadata})
    await settle(reconcile, KEY, fake)
    assert ways_in(fake) == ["Ingress"]


async def test_a_way_in_that_may_not_be_taken_away_is_said() -> None:
    fake = await exposed(ExposureKind.INGRESS)
    exposed_by(fake, ExposureKind.NONE)
    fake.cluster.fails = refusing(Forbidden("ingresses is forbidden"))
    assert isinstance(await settle(reconcile, KEY, fake), Retry)
    assert told(fake) == ("False", "ChildRefused")
    assert "Ingress chat, which is not wanted any more" in message(fake)


async def test_an_old_view_of_the_old_way_in_holds_nothing_up() -> None:
    fake = await exposed(ExposureKind.INGRESS)
    exposed_by(fake, ExposureKind.NONE)
    fake.cluster.fails = refusing(Conflict("it has changed"))
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("False", "Starting")


def refusing(error: Exception) -> Callable[[str, Manifest], Exception | None]:
    """The API server does not delete Ingresses."""

    def fails(verb: str, manifest: Manifest) -> Exception | None:
        return error if (verb, manifest.get("kind")) == ("delete", "Ingress") else None

    return fails
