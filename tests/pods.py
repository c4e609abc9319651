"""A pod's inside on this machine: documents, Secrets and mounts below a folder, and a registry that answers.

Stages run as they do in a container, through `runtime.execute`; a test reads what the operator would.
"""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.ociserver import FakeRegistry

from trimtab_api import names
from trimtab_api.documents import Output, PrepareResult, PrepareRun
from trimtab_api.documents.common import Owner
from trimtab_api.documents.preparation import BaseOrigin, DataOrigin, LeakageCheck, Synthesis
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.data import InlineDataset
from trimtab_oci import Manifest, Reference, RegistryClient
from trimtab_pipelines.runtime import Stage, execute

OWNER = Owner(kind="FineTuneJob", namespace="team", name="job", uid="0" * 36)
Result = TypeVar("Result", bound=ApiModel)
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
]


@dataclass
class Pod:
    """The paths of the contract below `root`."""

    root: Path
    registry: FakeRegistry
    environment: pytest.MonkeyPatch
    exit_code: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        self.environment.setenv("TRIMTAB_ROOT", str(self.root))

    def output(self, repository: str = "team/data") -> Output:
        return Output(
            repository=f"{self.registry.address}/{repository}", result_tag="run-1", plain_http=True
        )

    def file(self, path: str, content: bytes | str) -> Path:
        """A file at a path of the contract."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def secret(self, name: str, **values: str) -> None:
        for key, value in values.items():
            self.file(f"{names.CREDENTIALS_PATH}/{name}/{key}", value)

    def run(self, stage: Stage[Any, Result], document: ApiModel, kind: type[Result]) -> Result:
        """A stage from mounted document to termination message."""
        self.file(names.RUN_DOCUMENT, document.model_dump_json(by_alias=True))
        self.exit_code = execute(stage)
        message = self.root / names.TERMINATION_MESSAGE_PATH.lstrip("/")
        return kind.model_validate_json(message.read_bytes())

    def prepare(
        self,
        *uris: str,
        base: BaseOrigin | None = None,
        sources: list[dict[str, Any]] | None = None,
        leakage: LeakageCheck | None = None,
        synthesis: Synthesis | None = None,
        is_spread: bool = False,
        **dataset: Any,
    ) -> PrepareResult:
        """The stage `prepare` on these sources, in the form of a manifest."""
        from trimtab_pipelines import prepare  # noqa: PLC0415 - not every user of a pod needs it

        data = None
        if uris or sources:
            wire = {"sources": sources or [{"uri": uri} for uri in uris], **dataset}
            data = DataOrigin(
                dataset=InlineDataset.model_validate(wire),
                leakage=leakage,
                synthesis=synthesis,
                is_spread=is_spread,
                output=self.output(),
            )
        return self.run(prepare.STAGE, PrepareRun(owner=OWNER, base=base, data=data), PrepareResult)

    def mirror(self, uri: str, revision: str | None = None) -> PrepareResult:
        """The stage `prepare` on a base model alone."""
        output = self.output("base/tiny")
        return self.prepare(base=BaseOrigin(uri=uri, revision=revision, output=output))

    def pulled(self, uri: str, folder: str = "pulled") -> dict[str, bytes]:
        """The files of an artifact."""
        target = self.root / folder
        asyncio.run(_pull(uri, target))
        return {p.name: p.read_bytes() for p in sorted(target.iterdir())}

    def push(self, directory: Path, repository: str, **options: Any) -> Reference:
        """Put an artifact into the registry."""
        return asyncio.run(_push(directory, f"{self.registry.address}/{repository}", options))

    def manifest(self, uri: str) -> Manifest:
        return asyncio.run(_manifest(uri))


async def _pull(uri: str, target: Path) -> None:
    target.mkdir()
    async with RegistryClient(plain_http=True) as registry:
        await registry.pull(Reference.parse(uri), target)


async def _push(directory: Path, repository: str, options: dict[str, Any]) -> Reference:
    async with RegistryClient(plain_http=True) as registry:
        return await registry.push_directory(directory, repository, **options)


async def _manifest(uri: str) -> Manifest:
    async with RegistryClient(plain_http=True) as registry:
        return await registry.manifest(Reference.parse(uri))


def jsonl(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Different questions with different answers."""
    return [{"prompt": f"Q{n}?", "completion": f"A{n}."} for n in range(start, start + count)]
