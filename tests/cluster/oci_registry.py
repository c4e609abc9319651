"""The registry client against the registry that the local cluster runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registries import registry_binary, running_registry

from trimtab_oci import NotFound, Reference, RegistryClient

REPORT = "application/vnd.trimtab.evaluation-report.v1+json"


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
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * 40_000)
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
