"""Base models brought into the registry, once and by digest, so that nodes can mount them."""

import asyncio
import logging
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

from trimtab_api.documents.preparation import BaseOrigin, PreparedArtifact
from trimtab_api.reasons import FailureReason
from trimtab_oci import Manifest, Reference, RegistryClient
from trimtab_pipelines import paths, safety
from trimtab_pipelines.preparation.publishing import push_directory
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources import Access, Listed, Reader, Secret, open_reader
from trimtab_pipelines.sources.artifact import parsed_reference, with_registry

log = logging.getLogger(__name__)

KIND = "Full"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True)
class _PulledReader:
    """The files at the top of an artifact that says nothing of itself."""

    folder: Path

    def listed(self) -> list[Listed]:
        names = sorted(path.name for path in self.folder.iterdir() if path.is_file())
        return [Listed(name, name) for name in names]

    def fetch(self, item: Listed) -> Path:
        return self.folder / item.key


def mirror_base(origin: BaseOrigin, workspace: Path) -> PreparedArtifact:
    """The base as an artifact of its own; what already is one is only looked at."""
    downloads = workspace / "downloads"
    model = workspace / "model"
    downloads.mkdir(parents=True)
    model.mkdir()
    access = Access(
        uri=origin.uri,
        field="baseModel",
        secret=Secret(paths.credentials("base")),
        output=origin.output,
        workspace=downloads,
        revision=origin.revision,
        is_model=True,
    )
    if origin.uri.startswith("oci://"):
        reference, manifest = _pulled(access, downloads)
        if manifest.kind == KIND:
            check_base(downloads, origin.uri)
            return PreparedArtifact(
                uri=str(reference), digest=manifest.digest, size_bytes=manifest.size_bytes
            )
        _collect(_PulledReader(downloads), access, model)
    else:
        _collect(open_reader(access), access, model)
    check_base(model, origin.uri)
    log.info("pushing %s", origin.uri)
    return asyncio.run(push_directory(model, origin.output, kind=KIND))


def check_base(model: Path, name: str) -> None:
    """Refuse what is not a whole, sound model in this folder."""
    files = {path.name for path in model.iterdir()}
    if "adapter_config.json" in files:
        _unusable(f"{name} is an adapter; name the whole model that it belongs to")
    if "config.json" not in files:
        _unusable(f"{name} has no config.json; name the folder of a transformers model")
    if not files.intersection(_TOKENIZERS):
        _unusable(f"{name} has no tokenizer; add its tokenizer.json")
    safety.check_model_directory(model)


def _pulled(access: Access, folder: Path) -> tuple[Reference, Manifest]:
    wanted = parsed_reference(access, access.uri)

    async def pull(registry: RegistryClient) -> tuple[Reference, Manifest]:
        reference = wanted.at(await registry.resolve(wanted))
        manifest = await registry.manifest(reference)
        if manifest.kind not in {KIND, None}:
            _unusable(f"{access.uri} is of kind {manifest.kind}, not a whole model")
        await registry.pull(reference, folder)
        return reference, manifest

    return asyncio.run(with_registry(access, wanted, pull))


def _collect(reader: Reader, access: Access, model: Path) -> None:
    """Only what makes the model is downloaded."""
    items = {Path(item.key).name: item for item in reader.listed()}
    if not any(fnmatch(name, safety.WEIGHTS) for name in items):
        _no_weights(access, items)
    shards = None
    if safety.INDEX in items:
        _take(reader, items[safety.INDEX], model)
        shards = safety.shards_of(model / safety.INDEX)
        if missing := sorted(shards - set(items)):
            raise RunError(
                FailureReason.CORRUPT_WEIGHTS,
                f"{access.uri}: {safety.INDEX} names {missing[0]}, which is missing",
            )
    for name in safety.wanted_files(items, shards):
        log.info("fetching %s", items[name].name)
        if not (model / name).exists():
            _take(reader, items[name], model)


def _take(reader: Reader, item: Listed, model: Path) -> None:
    """Put a file into the model's folder: downloads are moved, mounted files copied."""
    source = reader.fetch(item)
    target = model / Path(item.key).name
    if source.is_relative_to(model.parent):
        source.rename(target)
        return
    shutil.copyfile(source, target)


def _no_weights(access: Access, items: dict[str, Listed]) -> NoReturn:
    pickled = sorted(
        name for name in items if any(fnmatch(name, p) for p in safety.PICKLED_WEIGHTS)
    )
    if pickled:
        raise RunError(
            FailureReason.UNSAFE_FORMAT,
            f"{access.uri} has its weights only as {pickled[0]}, which runs code when it is "
            "opened; name a commit with safetensors or convert them",
        )
    _unusable(f"{access.uri} has no *.safetensors; name the folder that holds the weights")


def _unusable(message: str) -> NoReturn:
    raise RunError(FailureReason.UNSUPPORTED_MODEL, message)
