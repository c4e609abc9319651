"""The generated CRDs keep the promises that the API server does not check for us."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field
from tests.builders import (
    Manifest,
    decision,
    fine_tune_job,
    full_version,
    inference_service,
    model_version,
    pretraining_job,
)

import generate
from generation.manifests import KINDS, MAX_BYTES, crd, crd_file, for_chart
from generation.schema import UntranslatableError, structural
from trimtab_api.model import VALIDATIONS, ApiModel
from trimtab_api.v1alpha1 import Decision, FineTuneJob, InferenceService, ModelVersion
from trimtab_api.v1alpha1.common import AnyResource

ROOT = Path(__file__).resolve().parents[2]
Schema = dict[str, Any]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node below the root, with its path."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from nodes(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield f"{path}[{word}]", schema[word]
            yield from nodes(schema[word], f"{path}[{word}]")


def root(kind: type[AnyResource]) -> Schema:
    schema: Schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def ours(kind: type[AnyResource]) -> list[tuple[str, Schema]]:
    """Nodes of spec and status."""
    return [
        (path, node) for path, node in nodes(root(kind)) if path.startswith((".spec", ".status"))
    ]


every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@every_kind
def test_every_field_has_a_description(kind: type[AnyResource]) -> None:
    assert [
        path
        for path, node in nodes(root(kind))
        if not node.get("description") and path != ".metadata"
    ] == []


@every_kind
def test_descriptions_are_sentences(kind: type[AnyResource]) -> None:
    assert [path for path, node in ours(kind) if not node["description"].endswith(".")] == []


BOUNDS = {"string": ("maxLength", "enum"), "array": ("maxItems",)}


@every_kind
def test_every_list_and_string_is_bounded(kind: type[AnyResource]) -> None:
    loose = [
        path for path, node in ours(kind) if not set(BOUNDS.get(node["type"], node)) & set(node)
    ]
    assert loose == []


@every_kind
def test_every_map_is_bounded(kind: type[AnyResource]) -> None:
    assert [
        path
        for path, node in ours(kind)
        if "additionalProperties" in node and "maxProperties" not in node
    ] == []


@every_kind
def test_every_list_says_how_it_is_merged(kind: type[AnyResource]) -> None:
    lists = {
        path: node["x-kubernetes-list-type"] for path, node in ours(kind) if node["type"] == "array"
    }
    assert lists[".status.conditions"] == "map"
    assert set(lists.values()) <= {"map", "atomic"}


@every_kind
def test_every_rule_names_something_to_do(kind: type[AnyResource]) -> None:
    rules = [
        rule
        for _, node in [("", root(kind)), *nodes(root(kind))]
        for rule in node.get(VALIDATIONS, [])
    ]
    assert rules
    without_remedy = [rule["message"] for rule in rules if not {";", ","} & set(rule["message"])]
    assert without_remedy == []


@every_kind
def test_a_definition_is_small(kind: type[AnyResource]) -> None:
    assert len(crd_file(kind)) < MAX_BYTES


@every_kind
def test_columns_read_what_exists(kind: type[AnyResource]) -> None:
    known = {path for path, _ in nodes(root(kind))} | {".metadata.creationTimestamp"}
    read = {column.path.partition("[?(")[0] for column in kind.definition.columns}
    assert read - known == set()


def test_defaults_of_the_types_stand_in_the_schema() -> None:
    spec = root(FineTuneJob)["properties"]["spec"]["properties"]
    assert spec["objective"]["default"] == "Supervised"
    assert spec["suspend"]["default"] is False
    assert spec["hyperparameters"]["properties"]["learningRate"]["default"] == 0.0002
    assert spec["hyperparameters"]["default"]["learningRate"] == 0.0002
    assert spec["dataset"]["properties"]["inline"]["properties"]["split"]["default"]["train"] == 90


def test_an_autoscaler_may_own_replicas() -> None:
    version = crd(InferenceService)["spec"]["versions"][0]
    spec = root(InferenceService)["properties"]["spec"]["properties"]
    assert "default" not in spec["replicas"]
    assert version["subresources"]["scale"] == {
        "labelSelectorPath": ".status.selector",
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
    }


def test_a_status_has_no_defaults() -> None:
    assert [
        path
        for kind in KINDS
        for path, node in ours(kind)
        if path.startswith(".status") and "default" in node
    ] == []


def test_exclusive_bounds_are_flags() -> None:
    spec = root(FineTuneJob)["properties"]["spec"]["properties"]
    rate = spec["hyperparameters"]["properties"]["learningRate"]
    assert (rate["minimum"], rate["exclusiveMinimum"]) == (0, True)


class Choice(ApiModel):
    either: int | str = 0


class Loose(ApiModel):
    multiple: int = Field(multiple_of=3)


@pytest.mark.parametrize(
    "model", [Choice, Loose], ids=["a choice between types", "a bound that a CRD does not know"]
)
def test_what_a_crd_cannot_say_is_refused(model: type[ApiModel]) -> None:
    with pytest.raises(UntranslatableError):
        structural(model, defaults=True)


def test_what_is_committed_is_what_is_generated() -> None:
    assert [
        str(path)
        for path, wanted in generate.generated().items()
        if generate.difference(path, wanted, ROOT)
    ] == []


def test_check_shows_the_difference_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    changed = tmp_path / "crds" / "modelversions.yaml"
    changed.write_text(
        changed.read_text().replace("shortNames:\n    - mv", "shortNames:\n    - wrong")
    )
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    shown = capsys.readouterr().out
    assert "-    - wrong" in shown
    assert "+    - mv" in shown


@every_kind
def test_the_charts_copy_is_the_same_but_for_helm(kind: type[AnyResource]) -> None:
    lines = [line for line in for_chart(kind).splitlines() if "{{" not in line]
    kept = "\n".join(lines).replace(
        "  labels:\n  annotations:\n    helm.sh/resource-policy: keep\n", ""
    )
    assert yaml.safe_load(kept) == crd(kind)


BUILT = {
    "a job": (FineTuneJob, fine_tune_job()),
    "a pretraining job": (FineTuneJob, pretraining_job()),
    "an adapter": (ModelVersion, model_version()),
    "a full model": (ModelVersion, full_version()),
    "a service": (InferenceService, inference_service()),
    "a decision": (Decision, decision()),
}


@pytest.mark.parametrize(("kind", "manifest"), BUILT.values(), ids=BUILT)
def test_built_manifests_are_read_by_the_types(kind: type[AnyResource], manifest: Manifest) -> None:
    read = kind.model_validate(manifest)
    assert read.key == (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
    again = kind.model_validate({**manifest, "spec": read.spec.to_wire()})
    assert again.spec == read.spec


def test_every_example_is_read_by_the_types() -> None:
    kinds = {kind.__name__: kind for kind in KINDS}
    read = [
        kinds[manifest["kind"]].model_validate(manifest).metadata.name
        for path in sorted((ROOT / "examples").glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] in kinds
    ]
    assert len(read) >= 6
