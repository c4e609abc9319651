"""One ModelVersion in a world of fakes: what the registry and its pod say, and how to look at it."""

from typing import Any

from tests.fakes import FakeWorld
from tests.servingbuilders import NAMESPACE, a_report, an_artifact, digest_of, uri_of

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.conditions import find

KEY = (NAMESPACE, "bot-1")
REPORT = uri_of("report")
GIVEN = {"report": REPORT}


def world_of(*objects: Any, **registry: Any) -> FakeWorld:
    fake = FakeWorld()
    for each in objects:
        fake.cluster.add(each)
    fake.registry.manifests[uri_of("bot-1")] = registry.get("artifact", an_artifact())
    report = registry.get("report", a_report())
    fake.registry.manifests[REPORT] = {"subject": {"digest": digest_of("bot-1")}}
    fake.registry.documents[REPORT] = (
        report if isinstance(report, bytes) else report.model_dump_json().encode()
    )
    return fake


def seen(fake: FakeWorld, key: tuple[str, str] = KEY) -> ModelVersion:
    version = fake.cluster.get(ModelVersion, key)
    assert version is not None
    return version


def told(fake: FakeWorld, kind: str, key: tuple[str, str] = KEY) -> tuple[str, str]:
    found = find(seen(fake, key).status.conditions, kind)
    assert found is not None, kind
    return found.status.value, found.reason
