"""Two bases behind one public name: each on engines of its own, which know nothing of the other."""

from functools import partial
from pathlib import Path

from tests.servingkit import BASE, FakeEngine, base_version, eventually, table_of, version_of
from tests.servingstack import EnginePod, Stack, data_plane, engine_pod

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_api.v1alpha1.modelversion import ArtifactKind

KEY = "engine-2.json"
NEW_DIGEST = "sha256:" + "2" * 64


def narrowed(version: RoutedVersion, pod: EnginePod) -> RoutingTable:
    table = table_of({"tiny": [version]}, (pod.address,))
    return table.model_copy(update={"base_digest": version.digest})


def shares(stack: Stack, other: EnginePod, present: int, new: int) -> None:
    """Write the tables, as the operator does."""
    old = base_version(present)
    version = version_of("new-base", NEW_DIGEST, kind=ArtifactKind.FULL, weight=new)
    everything = table_of({"tiny": [old, version]}, (stack.pod.address, other.address))
    stack.api.others = {"gateway.json": everything, KEY: narrowed(version, other)}
    stack.api.put(narrowed(old, stack.pod))


def has_weights(stack: Stack, wanted: set[str]) -> bool:
    """Whether the gateway would choose from these."""
    return wanted == {v.version for v in stack.gateway.forwarder.routes["tiny"].versions}


async def answering(stack: Stack) -> set[str]:
    """The versions that answer twenty users, and that the engines are who they are said to be."""
    found = set()
    for user in range(20):
        answer = await stack.ask("tiny", user=f"user-{user}")
        assert answer.status_code == 200, answer.text
        version = answer.headers["x-trimtab-version"]
        assert ("blue" in answer.text) == (version == "new-base"), answer.text
        found.add(version)
    return found


async def test_a_new_base_gets_its_share_all_requests_and_loses_them_again(tmp_path: Path) -> None:
    async with (
        data_plane(tmp_path) as stack,
        engine_pod(tmp_path / "new", stack.api, FakeEngine({BASE: "blue"}), table_key=KEY) as other,
    ):
        shares(stack, other, 100, 0)
        fleet = stack.gateway.fleet
        await eventually(
            lambda: fleet.pick(NEW_DIGEST, ()) and fleet.pick(base_version().digest, ())
        )
        assert list(other.states()) == ["new-base"]
        assert list(stack.pod.states()) == [base_version().version]
        assert other.agent.board.report.knows_pools
        for present, new, wanted in [
            (100, 0, {base_version().version}),
            (50, 50, {base_version().version, "new-base"}),
            (0, 100, {"new-base"}),
            (100, 0, {base_version().version}),
        ]:
            shares(stack, other, present, new)
            await eventually(partial(has_weights, stack, wanted))
            assert await answering(stack) == wanted


async def test_what_its_traffic_was_like_is_asked_of_who_holds_the_base(tmp_path: Path) -> None:
    async with (
        data_plane(tmp_path) as stack,
        engine_pod(tmp_path / "new", stack.api, FakeEngine({BASE: "blue"}), table_key=KEY) as other,
    ):
        known = ReferenceProfile(features=1, prompts=7, prompt_characters=[], prompt_tokens=[])
        published = await stack.publish("blue", profile=known)
        version = published.model_copy(update={"kind": ArtifactKind.FULL})
        everything = table_of(
            {"tiny": [base_version(), version]}, (stack.pod.address, other.address)
        )
        stack.api.others = {"gateway.json": everything, KEY: narrowed(version, other)}
        stack.api.put(narrowed(base_version(), stack.pod))
        fleet = stack.gateway.fleet
        await eventually(lambda: fleet.pick(version.digest, ()))
        assert await fleet.profile(version.digest) == known
