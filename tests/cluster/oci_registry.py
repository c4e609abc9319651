"""The registry client against the registry that the local cluster runs."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registries import registry_binary, running_registry

from trimtab_api.documents import DeletionResult, DeletionRun
from trimtab_api.documents.common import Owner, Stored
from trimtab_oci import NotFound, Reference, RegistryClient
from trimtab_pipelines import deletion
from trimtab_pipelines.runtime import Stop

REPORT = "application/vnd.trimtab.evaluation-report.v1+json"
WEIGHTS = 256 * 40_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = registry_binary()
    if binary is None:
        pytest.skip("the registry is not built: make cluster-up")
    with running_registry(binary, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * (WEIGHTS // 256))
    (directory / "config.json").write_text("{}")
    return directory


async def test_a_model_goes_there_and_back(address: str, model: Path, tmp_path: Path) -> None:
    async with RegistryClient(plain_http=True) as oci:
        pushed = await oci.push_directory(model, f"{address}/team/model", kind="Full", tag="v1")
        again = await oci.push_directory(model, f"{address}/team/model", kind="Full")
        assert again.digest == pushed.digest
        manifest = await oci.pull(Reference.parse(f"{address}/team/model:v1"), tmp_path / "out")
    assert manifest.kind == "Full"
    for file in model.iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


async def test_a_report_is_found_by_its_subject(address: str, model: Path) -> None:
    repository = f"{address}/team/reported"
    async with RegistryClient(plain_http=True) as oci:
        subject = await oci.push_directory(model, repository, kind="Full")
        report = await oci.push_document(
            repository, b"{}", artifact_type=REPORT, subject=subject, tag="run-1"
        )
        await oci.push_document(repository, b"#", artifact_type="text/markdown", subject=subject)
        found = await oci.referrers(subject, REPORT)
        assert [item.digest for item in found] == [report.digest]
        assert await oci.document(subject.tagged("run-1")) == b"{}"


async def test_what_is_deleted_is_gone(address: str, model: Path) -> None:
    async with RegistryClient(plain_http=True) as oci:
        pushed = await oci.push_directory(model, f"{address}/team/deleted")
        await oci.delete(pushed)
        with pytest.raises(NotFound):
            await oci.resolve(pushed)


async def test_its_own_collector_frees_what_a_deleted_model_took_and_no_more(
    tmp_path: Path, model: Path
) -> None:
    """As docs/governance.md says: manifests go at once, blobs when the registry collects them."""
    binary = registry_binary()
    assert binary is not None, "the registry is not built: make cluster-up"
    (model / "tokenizer.json").write_text('"of both"')
    sibling = tmp_path / "sibling"
    sibling.mkdir()
    (sibling / "tokenizer.json").write_text('"of both"')
    with running_registry(binary, tmp_path) as address:
        async with RegistryClient(plain_http=True) as oci:
            kept = await oci.push_directory(sibling, f"{address}/team/bot", kind="Full")
            gone = await oci.push_directory(model, f"{address}/team/bot", kind="Full")
            await oci.push_document(
                f"{address}/team/bot", b"{}", artifact_type=REPORT, subject=gone
            )
        deleted = await asyncio.to_thread(_deleted, gone)
    assert deleted.manifests == 2
    before = _bytes_in(tmp_path / "blobs")
    await asyncio.to_thread(_collect, binary, tmp_path / "registry.yml")
    assert before - _bytes_in(tmp_path / "blobs") > WEIGHTS
    with running_registry(binary, tmp_path) as address:
        async with RegistryClient(plain_http=True) as oci:
            there = Reference.parse(f"{address}/team/bot").at(str(kept.digest))
            await oci.pull(there, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == '"of both"'


def _collect(binary: Path, config: Path) -> None:
    command = [str(binary), "garbage-collect", str(config)]
    subprocess.run(command, check=True, capture_output=True)


def _deleted(artifact: Reference) -> DeletionResult:
    """By the code that runs in the pod."""
    owner = Owner(kind="ModelVersion", namespace="team", name="bot", uid="u")
    stored = Stored(uri=str(artifact), digest=str(artifact.digest))
    run = DeletionRun(owner=owner, artifact=stored, plain_http=True)
    return deletion.work(run, Stop())


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
