"""The registry client against a registry that can misbehave."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.ociserver import FakeRegistry

from trimtab_oci import (
    ANNOTATION_KIND,
    DigestMismatch,
    DockerConfig,
    NotFound,
    Reference,
    RegistryClient,
    RegistryError,
    RegistryForbidden,
    RegistryUnreachable,
    UnsafeArtifact,
    UnsupportedArtifact,
)
from trimtab_oci.format import TAR, Descriptor, image_manifest
from trimtab_oci.transport import Retries

REPORT = "application/vnd.trimtab.evaluation-report.v1+json"
QUICK = Retries(attempts=3, first_pause_seconds=0.01)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as running:
        yield running


def client(credentials: DockerConfig | None = None) -> RegistryClient:
    return RegistryClient(plain_http=True, credentials=credentials, retries=QUICK)


def account(registry: FakeRegistry, user: str = "robot:secret") -> DockerConfig:
    auth = base64.b64encode(user.encode()).decode()
    return DockerConfig.parse(json.dumps({"auths": {registry.address: {"auth": auth}}}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "deep").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * 20_000)
    (directory / "config.json").write_text("{}")
    (directory / "deep" / "empty").write_bytes(b"")
    return directory


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }


async def test_what_was_pushed_comes_back_as_it_was(
    registry: FakeRegistry, model: Path, tmp_path: Path
) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(
            model, f"{registry.address}/a/b", kind="Full", annotations={"x": "y"}
        )
        manifest = await oci.pull(pushed, tmp_path / "out")
    assert files(tmp_path / "out") == files(model)
    assert manifest.kind == "Full"
    assert manifest.annotations == {ANNOTATION_KIND: "Full", "x": "y"}
    assert pushed.digest == manifest.digest


async def test_equal_content_has_an_equal_digest_and_is_uploaded_once(
    registry: FakeRegistry, model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for name, data in reversed(files(model).items()):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)
        (copy / name).chmod(0o600)
    async with client() as oci:
        first = await oci.push_directory(model, f"{registry.address}/a/b", kind="Full")
        uploads = registry.uploads
        second = await oci.push_directory(copy, f"{registry.address}/a/b", kind="Full")
    assert first == second
    assert registry.uploads == uploads


async def test_the_digest_of_a_known_directory_never_changes(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"a": 1}')
    async with client() as oci:
        pushed = await oci.push_directory(tmp_path, f"{registry.address}/a/b", kind="Full")
    assert (
        pushed.digest == "sha256:9ce6cb31c39e8b1a217923e21103f4caf386c0a2c17fa7404ce455ef4d9bed8e"
    )


async def test_a_tag_resolves_to_the_digest(registry: FakeRegistry, model: Path) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b", tag="run-1")
        assert await oci.resolve(Reference.parse(f"{registry.address}/a/b:run-1")) == pushed.digest
        again = await oci.tag(pushed, "other")
        assert (again.tag, again.digest) == ("other", pushed.digest)
        assert await oci.resolve(again.tagged("other")) == pushed.digest
        with pytest.raises(NotFound):
            await oci.resolve(Reference.parse(f"{registry.address}/a/b:none"))


@pytest.mark.parametrize(
    "has_referrers", [True, False], ids=["by the referrers API", "by a tag where it is missing"]
)
async def test_documents_are_attached_to_their_subject(
    registry: FakeRegistry, model: Path, has_referrers: bool
) -> None:
    registry.has_referrers = has_referrers
    repository = f"{registry.address}/a/b"
    async with client() as oci:
        subject = await oci.push_directory(model, repository)
        report = await oci.push_document(
            repository, b'{"a": 1}', artifact_type=REPORT, subject=subject
        )
        await oci.push_document(
            repository, b"# card", artifact_type="text/markdown", subject=subject
        )
        found = await oci.referrers(subject, REPORT)
        assert [item.digest for item in found] == [report.digest]
        assert len(await oci.referrers(subject)) == 2
        assert await oci.document(subject.at(found[0].digest)) == b'{"a": 1}'
        manifest = await oci.manifest(report)
    assert manifest.subject is not None
    assert manifest.subject.digest == subject.digest
    assert manifest.artifact_type == REPORT


async def test_a_document_is_not_attached_across_repositories(
    registry: FakeRegistry, model: Path
) -> None:
    async with client() as oci:
        subject = await oci.push_directory(model, f"{registry.address}/a/b")
        with pytest.raises(RegistryError, match="another repository"):
            await oci.push_document(
                f"{registry.address}/c", b"{}", artifact_type=REPORT, subject=subject
            )


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_credentials_open_a_closed_registry(
    registry: FakeRegistry, model: Path, tmp_path: Path, auth: str
) -> None:
    registry.auth = auth
    async with client(account(registry)) as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        await oci.pull(pushed, tmp_path / "out")
    assert files(tmp_path / "out") == files(model)
    assert registry.requests.count("GET /token") <= 2


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize(
    "user", [None, "robot:wrong"], ids=["without credentials", "with wrong credentials"]
)
async def test_a_closed_registry_refuses(
    registry: FakeRegistry, model: Path, auth: str, user: str | None
) -> None:
    registry.auth = auth
    async with client(account(registry, user) if user else None) as oci:
        with pytest.raises(RegistryForbidden):
            await oci.push_directory(model, f"{registry.address}/a/b")


async def test_another_host_that_takes_uploads_sees_no_credentials(
    registry: FakeRegistry, model: Path
) -> None:
    registry.auth = "basic"
    async with FakeRegistry().running() as other, client(account(registry)) as oci:
        registry.uploads_at = other.address
        await oci.push_directory(model, f"{registry.address}/a/b")
    assert len(other.blobs) == 4
    assert set(other.seen_authorization) == {""}
    assert set(registry.seen_authorization) > {""}


async def test_a_busy_registry_is_tried_again(registry: FakeRegistry, model: Path) -> None:
    registry.failures = [503, 0, 500, 0, 502, 503]
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        assert await oci.resolve(pushed) == pushed.digest


async def test_a_registry_that_stays_away_is_an_error_that_keeps_its_cause(
    registry: FakeRegistry,
) -> None:
    registry.failures = [503] * 9
    async with client() as oci:
        with pytest.raises(RegistryUnreachable, match="503"):
            await oci.resolve(Reference.parse(f"{registry.address}/a/b:c"))
        assert len(registry.requests) == QUICK.attempts
        with pytest.raises(RegistryUnreachable) as caught:
            await oci.resolve(Reference.parse("127.0.0.1:1/a/b:c"))
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("knows_ranges", [True, False], ids=["with ranges", "without ranges"])
async def test_a_broken_download_goes_on(
    registry: FakeRegistry, model: Path, tmp_path: Path, knows_ranges: bool
) -> None:
    registry.knows_ranges = knows_ranges
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        registry.break_blob_after = [100, 3_000_000, 3_500_000]
        await oci.pull(pushed, tmp_path / "out")
    assert files(tmp_path / "out") == files(model)


async def test_a_download_that_always_breaks_leaves_nothing(
    registry: FakeRegistry, model: Path, tmp_path: Path
) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        registry.break_blob_after = [0] * 20
        with pytest.raises(RegistryUnreachable):
            await oci.pull(pushed, tmp_path / "out")
    assert files(tmp_path / "out") == {}


async def test_a_forged_blob_is_refused_and_leaves_nothing(
    registry: FakeRegistry, model: Path, tmp_path: Path
) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        for digest, data in registry.blobs.items():
            registry.blobs[digest] = data.replace(b"\x10\x11\x12", b"\x10\x10\x10")
        with pytest.raises(DigestMismatch):
            await oci.pull(pushed, tmp_path / "out")
    assert "model.safetensors" not in files(tmp_path / "out")
    assert not [name for name in files(tmp_path / "out") if name.endswith(".partial")]


async def test_a_forged_manifest_is_refused(registry: FakeRegistry, model: Path) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        media_type, data = registry.manifests[pushed.digest or ""]
        registry.manifests[pushed.digest or ""] = (media_type, data + b" ")
        with pytest.raises(DigestMismatch, match="expected"):
            await oci.manifest(pushed)


async def test_a_download_that_is_given_up_ends_at_once(
    registry: FakeRegistry, model: Path, tmp_path: Path
) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        registry.stalls = True
        task = asyncio.create_task(oci.pull(pushed, tmp_path / "out"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await task


async def test_an_index_is_refused_with_what_to_do(registry: FakeRegistry) -> None:
    index = b'{"schemaVersion": 2, "manifests": []}'
    registry.manifests["latest"] = ("application/vnd.oci.image.index.v1+json", index)
    async with client() as oci:
        with pytest.raises(UnsupportedArtifact, match="name one of them by its digest"):
            await oci.manifest(Reference.parse(f"{registry.address}/a/b"))


async def test_a_layer_with_a_title_is_a_file(registry: FakeRegistry, tmp_path: Path) -> None:
    data = b'{"prompt": 1}\n'
    layer = Descriptor(
        "application/jsonl",
        registry.put_blob(data),
        len(data),
        {"org.opencontainers.image.title": "train.jsonl"},
    )
    raw = image_manifest(Descriptor.of("application/json", b"{}"), [layer], {})
    registry.manifests["v1"] = ("application/vnd.oci.image.manifest.v1+json", raw)
    async with client() as oci:
        await oci.pull(Reference.parse(f"{registry.address}/a/b:v1"), tmp_path / "out")
    assert files(tmp_path / "out") == {"train.jsonl": data}


async def test_a_layer_that_is_longer_than_told_is_refused(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    digest = "sha256:" + hashlib.sha256(b"a").hexdigest()
    registry.blobs[digest] = b"a" * 100
    layer = Descriptor(TAR, digest, 10, {"org.opencontainers.image.title": "x"})
    raw = image_manifest(Descriptor.of("application/json", b"{}"), [layer], {})
    registry.manifests["v1"] = ("application/vnd.oci.image.manifest.v1+json", raw)
    async with client() as oci:
        with pytest.raises(DigestMismatch):
            await oci.pull(Reference.parse(f"{registry.address}/a/b:v1"), tmp_path / "out")


async def test_an_empty_directory_or_a_link_is_not_pushed(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    async with client() as oci:
        with pytest.raises(UnsafeArtifact, match="holds no files"):
            await oci.push_directory(tmp_path, f"{registry.address}/a/b")
        (tmp_path / "link").symlink_to("/etc/passwd")
        with pytest.raises(UnsafeArtifact, match="neither a file nor a directory"):
            await oci.push_directory(tmp_path, f"{registry.address}/a/b")


async def test_deleting_what_is_not_there_is_no_error(registry: FakeRegistry, model: Path) -> None:
    async with client() as oci:
        pushed = await oci.push_directory(model, f"{registry.address}/a/b")
        await oci.delete(pushed)
        await oci.delete(pushed)
        with pytest.raises(NotFound):
            await oci.manifest(pushed)
