"""Base models brought into the registry from claims and from registries."""

from pathlib import Path

import pytest
from tests.pods import Pod

from trimtab_api import names
from trimtab_api.reasons import FailureReason


def weights() -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": weights(),
}


def put(pod: Pod, files: dict[str, bytes], folder: str = "/claims/models/tiny") -> Path:
    for name, content in files.items():
        pod.file(f"{folder}/{name}", content)
    return pod.root / folder.lstrip("/")


def test_a_model_on_a_claim_is_pushed_by_digest_without_what_is_no_part_of_it(pod: Pod) -> None:
    put(pod, {**MODEL, "README.md": b"hello", "pytorch_model.bin": b"\x80\x02.", "train.py": b""})
    result = pod.mirror("pvc://models/tiny")
    assert result.base is not None
    assert pod.pulled(result.base.uri) == MODEL
    assert pod.manifest(result.base.uri).kind == "Full"
    assert result.base.uri.endswith(result.base.digest)
    assert result.base.size_bytes > 0


def test_the_same_model_has_the_same_digest(pod: Pod) -> None:
    put(pod, MODEL)
    put(pod, {**MODEL, "LICENSE": b"free"}, "/claims/models/copy")
    first, second = pod.mirror("pvc://models/tiny"), pod.mirror("pvc://models/copy")
    assert first.base == second.base


def test_a_tag_becomes_the_digest_that_it_means(pod: Pod) -> None:
    pushed = pod.push(put(pod, MODEL), "other/tiny", kind="Full", tag="v1")
    result = pod.mirror(f"oci://{pod.registry.address}/other/tiny:v1")
    assert result.base is not None
    assert result.base.digest == pushed.digest
    assert result.base.uri == f"oci://{pod.registry.address}/other/tiny@{pushed.digest}"


def test_an_artifact_that_says_nothing_of_itself_is_pushed_anew(pod: Pod) -> None:
    files = {**MODEL, "README.md": b"hello", "model.py": b"print()"}
    pod.push(put(pod, files), "other/foreign", kind=None, tag="v1")
    result = pod.mirror(f"oci://{pod.registry.address}/other/foreign:v1")
    assert result.base is not None
    assert pod.pulled(result.base.uri) == MODEL
    assert "/base/tiny@" in result.base.uri
    assert pod.manifest(result.base.uri).kind == "Full"


def without(name: str) -> dict[str, bytes]:
    return {key: content for key, content in MODEL.items() if key != name}


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        pytest.param({**without("model.safetensors"), "pytorch_model.bin": b"\x80\x02."}, "UnsafeFormat", "only as pytorch_model.bin", id="pickled weights alone"),
        pytest.param({**MODEL, "model.safetensors": b"\x80\x02}q."}, "UnsafeFormat", "is a pickle", id="a pickle named .safetensors"),
        pytest.param({**MODEL, "model.safetensors": weights()[:-2]}, "CorruptWeights", "is truncated", id="truncated safetensors"),
        pytest.param(without("model.safetensors"), "UnsupportedModel", "has no *.safetensors", id="no weights"),
        pytest.param(without("config.json"), "UnsupportedModel", "has no config.json", id="no configuration"),
        pytest.param(without("tokenizer.json"), "UnsupportedModel", "has no tokenizer", id="no tokenizer"),
        pytest.param({"model.safetensors.index.json": b'{"weight_map": {"w": "b.safetensors"}}', **MODEL}, "CorruptWeights", "names b.safetensors, which is missing", id="a missing shard"),
        pytest.param({}, "SourceNotFound", "is not mounted", id="no claim"),
    ],
)  # fmt: skip
def test_a_base_that_cannot_be_used_is_explained(
    pod: Pod, files: dict[str, bytes], reason: str, message: str
) -> None:
    put(pod, files)
    result = pod.mirror("pvc://models/tiny")
    assert pod.exit_code == names.EXIT_USER_ERROR
    assert result.failure is not None
    assert result.failure.reason == FailureReason(reason)
    assert message in result.failure.message


@pytest.mark.parametrize(
    ("uri", "revision", "reason"),
    [
        pytest.param("hf://org/name", None, "RevisionMissing", id="a hub's model without a commit"),
        pytest.param("hf://org/name", "main", "RevisionMissing", id="a branch"),
        pytest.param("hf://name", "a" * 40, "UriUnsupported", id="a model without an organisation"),
        pytest.param("https://host/model.safetensors", None, "UriUnsupported", id="a model on the web"),
        pytest.param("file:///models", None, "UriUnsupported", id="an unknown scheme"),
    ],
)  # fmt: skip
def test_an_address_that_names_no_model_is_explained(
    pod: Pod, uri: str, revision: str | None, reason: str
) -> None:
    result = pod.mirror(uri, revision)
    assert result.failure is not None
    assert result.failure.reason == FailureReason(reason)


def test_an_adapter_is_no_base(pod: Pod) -> None:
    pod.push(put(pod, MODEL), "other/bot", kind="Adapter", tag="v1")
    result = pod.mirror(f"oci://{pod.registry.address}/other/bot:v1")
    assert result.failure is not None
    assert result.failure.reason == FailureReason.UNSUPPORTED_MODEL
