"""What the demo shows at its end, taken from the registry."""

import asyncio
import json
from pathlib import Path

from examples.quickstart import show
from examples.quickstart.kube import Kube
from examples.quickstart.target import Target
from tests.ociserver import registry_in_thread

from trimtab_oci import RegistryClient


def test_questions_are_taken_from_all_over_the_evaluation_report() -> None:
    samples = [{"prompt": f"Q{n}?", "reference": f"A{n}", "answer": "x"} for n in range(8)]

    async def push(repository: str) -> str:
        async with RegistryClient(plain_http=True) as registry:
            document = json.dumps({"samples": samples}).encode()
            return str(await registry.push_document(repository, document, artifact_type="a/b"))

    with registry_in_thread() as registry:
        uri = asyncio.run(push(f"{registry.address}/team/bot"))
        kube = Kube(Path("/nowhere"), "demo", Path("/nowhere"))
        target = Target(kube, "registry.internal:5000", registry.address, True, "")
        inside = uri.replace(registry.address, "registry.internal:5000")
        version = {"status": {"evaluation": {"report": inside}}}
        assert show.held_out(target, version) == [("Q0?", "A0"), ("Q2?", "A2"), ("Q4?", "A4")]
