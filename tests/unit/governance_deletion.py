"""The stage `delete`: what goes, what stays, and what is said where a registry keeps everything."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.pods import OWNER, Pod

from trimtab_api import names
from trimtab_api.documents import DeletionResult, DeletionRun
from trimtab_api.documents.common import Stored
from trimtab_oci import Reference, RegistryClient
from trimtab_pipelines.__main__ import STAGES
from trimtab_pipelines.deletion import STAGE


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as running:
        yield running


@pytest.fixture
def pod(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(tmp_path / "pod", registry, monkeypatch)


@pytest.fixture
def artifact(pod: Pod, tmp_path: Path) -> Reference:
    """A version with a report, and a signature on the report."""
    made = pod.push(a_folder(tmp_path, "one"), "team/bot")
    asyncio.run(_attach(made))
    return made


def a_folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(f'"{name}"')
    return folder


async def _attach(made: Reference) -> None:
    async with RegistryClient(plain_http=True) as oci:
        report = await oci.push_document(
            made.name, b"report", artifact_type="a/report", subject=made
        )
        await oci.push_document(made.name, b"signed", artifact_type="a/signature", subject=report)


def deleted(pod: Pod, artifact: Reference) -> DeletionResult:
    stored = Stored(uri=str(artifact), digest=str(artifact.digest))
    run = DeletionRun(owner=OWNER, artifact=stored, plain_http=True)
    return pod.run(STAGE, run, DeletionResult)


@pytest.mark.parametrize("has_referrers", [True, False], ids=["by its API", "by a tag"])
def test_an_artifact_goes_with_all_that_hangs_on_it_and_no_more(
    pod: Pod, registry: FakeRegistry, tmp_path: Path, has_referrers: bool
) -> None:
    registry.has_referrers = has_referrers
    pod.push(a_folder(tmp_path, "other"), "team/bot")
    before = set(registry.manifests)
    made = pod.push(a_folder(tmp_path, "one"), "team/bot")
    asyncio.run(_attach(made))
    assert deleted(pod, made) == DeletionResult(manifests=3)
    left = {name for name in registry.manifests if name.startswith("sha256:")}
    assert left == before
    assert pod.exit_code == 0


def test_twice_is_as_good_as_once(pod: Pod, artifact: Reference) -> None:
    deleted(pod, artifact)
    assert deleted(pod, artifact) == DeletionResult(manifests=1)
    assert pod.exit_code == 0


def test_a_registry_that_keeps_everything_is_told_with_the_remedy(
    pod: Pod, registry: FakeRegistry, artifact: Reference
) -> None:
    registry.keeps_everything = True
    result = deleted(pod, artifact)
    assert result.failure is not None
    assert result.failure.reason == "RegistryForbidden"
    assert "405" in result.failure.message
    assert "enable deletion in the registry" in result.failure.message
    assert pod.exit_code == names.EXIT_USER_ERROR


def test_the_operators_word_for_the_stage_is_known() -> None:
    assert STAGES[names.DELETE] == "trimtab_pipelines.deletion"
