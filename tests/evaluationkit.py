"""The stage `evaluate` on real, tiny models: a base that is mounted, and what an evaluation names."""

import asyncio
from pathlib import Path
from typing import Any

from tests.pods import OWNER, Pod
from tests.tinymodels import edit_config, save_adapter, save_data

from trimtab_api.documents import EvaluationReport, EvaluationResult, EvaluationRun
from trimtab_api.documents.common import Mounted, Stored
from trimtab_oci import Reference, RegistryClient
from trimtab_pipelines import evaluate


class World(Pod):
    """A pod with a base mounted, and everything that an evaluation names in the registry."""

    base_folder: Path

    def mount(self, base: Path) -> Reference:
        self.base_folder = base
        (self.root / "models").mkdir()
        (self.root / "models/base").symlink_to(base)
        return self.push(base, "base/tiny", kind="Full")

    def evaluate(
        self, artifact: Reference, base: Reference | None, **changes: Any
    ) -> EvaluationResult:
        mounted = (
            {"base": Mounted(uri=str(base), digest=str(base.digest), path="/models/base")}
            if base
            else {
                "mounted": Mounted(
                    uri=str(artifact), digest=str(artifact.digest), path="/models/base"
                )
            }
        )
        run = EvaluationRun(
            owner=OWNER,
            kind=changes.pop("kind", "Adapter" if base else "Full"),
            artifact=Stored(uri=str(artifact), digest=str(artifact.digest)),
            output=changes.pop("output", self.output(artifact.repository)),
            max_new_tokens=8,
            **{**mounted, **changes},
        )  # fmt: skip
        return self.run(evaluate.STAGE, run, EvaluationResult)

    def data(self, records: list[dict[str, Any]]) -> Stored:
        pushed = self.push(save_data(self.root / "data", records), "team/data", kind="Dataset")
        return Stored(uri=str(pushed), digest=str(pushed.digest))

    def adapter(self, base: Reference, name: str = "one", **options: Any) -> Reference:
        changes = options.pop("changes", {})
        folder = save_adapter(self.base_folder, self.root / name, str(base.digest), **options)
        edit_config(folder, **changes)
        annotations = {"dev.trimtab.base": str(base.digest)}
        return self.push(folder, "team/bot", kind="Adapter", annotations=annotations)

    def report(self, result: EvaluationResult) -> EvaluationReport:
        assert result.report_uri is not None
        return EvaluationReport.model_validate_json(asyncio.run(document(result.report_uri)))


async def document(uri: str) -> bytes:
    async with RegistryClient(plain_http=True) as registry:
        return await registry.document(Reference.parse(uri))
