"""Versions that somebody brings along: what is wrong with them is said, and what served goes on serving."""

import asyncio
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from examples.quickstart.kube import condition
from tests.e2e.machine import Machine
from tests.e2e.world import World

from trimtab_oci import Reference, RegistryClient


def untouched(folder: Path) -> None:
    """The adapter as it is."""


def pickled(folder: Path) -> None:
    """A pickle under the name of a safetensors file."""
    (folder / "adapter_model.safetensors").write_bytes(
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94."
    )


def truncated(folder: Path) -> None:
    """Weights that end too early."""
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def decomposed(folder: Path) -> None:
    """An adapter of a form that the engine cannot serve."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": True}))


def header_lies(folder: Path) -> None:
    """A header that points behind the end of the file."""
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]}}
    ).encode()
    (folder / "adapter_model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + b"\0" * 64
    )


def touched(folder: Path) -> None:
    """Weights that nobody else has, sound but for what they say.

    Nor an earlier run: a registry takes no blob again that it has, harmed as it may be by then.
    """
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    for place, chance in enumerate(os.urandom(8)):
        content[-4 * (place + 1)] = chance  # the lowest bits of a float32
    path.write_bytes(content)


REFUSED = [
    pytest.param(pickled, {}, "UnsafeFormat", id="a pickle named safetensors"),
    pytest.param(truncated, {}, "CorruptWeights", id="truncated weights"),
    pytest.param(header_lies, {}, "CorruptWeights", id="a header that points outside of its file"),
    pytest.param(
        decomposed, {}, "UnsupportedAdapter", id="an adapter that the engine cannot serve"
    ),
    pytest.param(untouched, {"rank": 64}, "RankMismatch", id="another rank than declared"),
    pytest.param(
        untouched, {"base": "sha256:" + "0" * 64}, "BaseMismatch", id="an adapter of another base"
    ),
]


@pytest.mark.parametrize(("harm", "declared", "reason"), REFUSED)
def test_a_bad_import_is_never_ready(
    world: World,
    base: str,
    adapter: str,
    harm: Callable[[Path], None],
    declared: dict[str, object],
    reason: str,
) -> None:
    name = f"import-{harm.__name__.replace('_', '-')}-{reason.lower()}"
    world.apply(imported(name, base, changed(world, adapter, name, harm, declared), declared))
    found = world.holds("modelversion", name, "Ready", "False", seconds=240)
    assert reason in {
        condition(found, kind)["reason"] for kind in ("ArtifactVerified", "Evaluated", "Ready")
    }


def test_a_digest_that_does_not_exist_is_said(world: World, base: str) -> None:
    missing = f"oci://{world.place.registry}/e2e/none@sha256:{'1' * 64}"
    world.apply(imported("import-missing", base, missing, {}))
    found = world.holds("modelversion", "import-missing", "Ready", "False", seconds=240)
    assert condition(found, "ArtifactVerified")["status"] == "False"


def test_bytes_that_are_not_what_their_digest_says_are_refused(
    world: World, machine: Machine, base: str, adapter: str
) -> None:
    name = "import-rotten"
    uri = changed(world, adapter, name, touched, {})
    here = uri.replace(world.place.registry, world.place.registry_from_here)
    flip_a_bit(machine.blob(asyncio.run(_weights(here))), 1000)
    world.apply(imported(name, base, uri, {}))
    found = world.says("modelversion", name, "ArtifactVerified", "DigestMismatch", 240)
    assert condition(found, "Ready")["status"] == "False"


def changed(
    world: World, adapter: str, name: str, harm: Callable[[Path], None], declared: dict[str, object]
) -> str:
    """A copy of the adapter, harmed, in the registry; its address as pods say it."""
    spec = (world.kube.get("modelversion", adapter) or {})["spec"]
    folder = world.folder / name
    shutil.rmtree(folder, ignore_errors=True)

    async def copy() -> str:
        async with RegistryClient(plain_http=True) as registry:
            here = spec["artifact"]["uri"].replace(
                world.place.registry, world.place.registry_from_here
            )
            manifest = await registry.manifest(Reference.parse(here))
            await registry.pull(Reference.parse(here), folder)
            harm(folder)
            annotations = dict(manifest.annotations)
            if "base" in declared:
                annotations["dev.trimtab.base"] = str(declared["base"])
                config = folder / "adapter_config.json"
                config.write_text(
                    json.dumps(
                        {
                            **json.loads(config.read_text()),
                            "base_model_name_or_path": declared["base"],
                        }
                    )
                )
            pushed = await registry.push_directory(
                folder,
                f"{world.place.registry_from_here}/e2e/{name}",
                kind="Adapter",
                annotations=annotations,
            )
            return str(pushed.digest)

    return f"oci://{world.place.registry}/e2e/{name}@{asyncio.run(copy())}"


def imported(name: str, base: str, uri: str, declared: dict[str, object]) -> str:
    """A ModelVersion for an artifact that no job of ours made."""
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: ModelVersion
metadata: {{name: {name}}}
spec:
  model: imported
  artifact: {{uri: "{uri}", kind: Adapter, rank: {declared.get("rank", 8)}}}
  baseModel: {{modelVersion: {{name: "{base}"}}}}
"""


def flip_a_bit(path: Path, before_the_end: int) -> None:
    """Change one bit of a file, so many bytes before its end."""
    content = bytearray(path.read_bytes())
    content[-before_the_end] ^= 1
    path.write_bytes(content)


async def _weights(uri: str) -> str:
    async with RegistryClient(plain_http=True) as registry:
        manifest = await registry.manifest(Reference.parse(uri))
    return max(manifest.layers, key=lambda layer: layer.size).digest
