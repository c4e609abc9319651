"""What the check on CRDs refuses, what it lets pass, and how a release is kept."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

import generate
from generation.compatibility import Break, breaks
from generation.manifests import crd
from generation.released import FOLDER, complaints
from trimtab_api.model import VALIDATIONS
from trimtab_api.v1alpha1 import InferenceService

ROOT = Path(__file__).resolve().parents[2]
NAME = "inferenceservices.trimtab.dev"
Change = Callable[[Any], object]
BEFORE = crd(InferenceService)


def changed(change: Change) -> list[Break]:
    """What a change of the CRD of InferenceServices breaks."""
    after = deepcopy(BEFORE)
    change(after)
    return breaks({NAME: BEFORE}, {NAME: after})


def version(definition: Any) -> Any:
    return definition["spec"]["versions"][0]


def at(definition: Any, *path: str) -> Any:
    """The schema of a field; `[]` is an entry of a list, `{}` a value of a map."""
    words = {"[]": "items", "{}": "additionalProperties"}
    node = version(definition)["schema"]["openAPIV3Schema"]
    for name in path:
        node = node[words[name]] if name in words else node["properties"][name]
    return node


def removed(*path: str) -> Change:
    return lambda d: at(d, *path[:-1])["properties"].pop(path[-1])


def with_word(path: tuple[str, ...], **words: object) -> Change:
    return lambda d: at(d, *path).update(words)


def with_field(path: tuple[str, ...], schema: object, **words: object) -> Change:
    def change(definition: Any) -> None:
        node = at(definition, *path)
        node["properties"]["fresh"] = schema
        node.update(words)

    return change


def with_rule(rule: str) -> Change:
    return lambda d: at(d, "spec")[VALIDATIONS].append({"rule": rule, "message": "no; change it"})


def fresh_with(rule: str) -> Change:
    def change(definition: Any) -> None:
        with_field(("spec",), STRING)(definition)
        with_rule(rule)(definition)

    return change


def reordered(definition: Any) -> None:
    rules = at(definition, "spec")[VALIDATIONS]
    rules[0]["message"] = "said in other words; change it"
    rules.reverse()
    at(definition, "spec", "engine", "dtype")["enum"].reverse()


def next_version(definition: Any) -> None:
    """A second version beside the first, which stays the stored one."""
    definition["spec"]["versions"].append(
        {**deepcopy(version(definition)), "name": "v1beta1", "storage": False}
    )


ENGINE = ("spec", "engine")
GPUS = (*ENGINE, "gpus")
MODELS = ("spec", "models")
STRING = {"type": "string", "maxLength": 8, "description": "New."}

BREAKING: dict[str, tuple[Change, str, str]] = {
    "a version goes": (
        lambda d: version(d).update(name="v1beta1"),
        "InferenceService v1alpha1",
        "the version is gone",
    ),
    "a version is no longer served": (
        lambda d: version(d).update(served=False),
        "InferenceService v1alpha1",
        "it is no longer served",
    ),
    "another version is stored": (
        lambda d: version(d).update(storage=False),
        "InferenceService v1alpha1",
        "it is no longer the stored version",
    ),
    "the scope changes": (
        lambda d: d["spec"].update(scope="Cluster"),
        "InferenceService",
        "scope is Cluster and was Namespaced",
    ),
    "the group changes": (
        lambda d: d["spec"].update(group="example.com"),
        "InferenceService",
        "group is example.com and was trimtab.dev",
    ),
    "the kind changes": (
        lambda d: d["spec"]["names"].update(kind="Service"),
        "InferenceService",
        "kind is Service and was InferenceService",
    ),
    "a short name goes": (
        lambda d: d["spec"]["names"].update(shortNames=["is"]),
        "InferenceService",
        "tis of shortNames is gone",
    ),
    "a subresource goes": (
        lambda d: version(d)["subresources"].pop("scale"),
        "InferenceService v1alpha1",
        "subresource scale is gone",
    ),
    "scale reads another field": (
        lambda d: version(d)["subresources"]["scale"].update(specReplicasPath=".spec.count"),
        "InferenceService v1alpha1",
        "subresource scale reads other fields",
    ),
    "a field goes": (
        removed(*ENGINE, "cpu"),
        "InferenceService v1alpha1 spec.engine.cpu",
        "the field is gone",
    ),
    "a field of a list's entries goes": (
        removed(*MODELS, "[]", "version", "latestOf"),
        "InferenceService v1alpha1 spec.models[].version.latestOf",
        "the field is gone",
    ),
    "a field of status goes": (
        removed("status", "url"),
        "InferenceService v1alpha1 status.url",
        "the field is gone",
    ),
    "a field's type changes": (
        with_word(GPUS, type="string"),
        "InferenceService v1alpha1 spec.engine.gpus",
        "type is string and was integer",
    ),
    "a field is required that was not": (
        with_word(ENGINE, required=["memory"]),
        "InferenceService v1alpha1 spec.engine",
        "memory is required and has no default",
    ),
    "a new field is required": (
        with_field(ENGINE, STRING, required=["fresh"]),
        "InferenceService v1alpha1 spec.engine",
        "fresh is required and has no default",
    ),
    "a value is no longer accepted": (
        lambda d: at(d, *ENGINE, "dtype")["enum"].remove("Float16"),
        "InferenceService v1alpha1 spec.engine.dtype",
        "Float16 is no longer accepted",
    ),
    "only some values are accepted": (
        with_word((*ENGINE, "memory"), enum=["1Gi"]),
        "InferenceService v1alpha1 spec.engine.memory",
        "only 1Gi are accepted",
    ),
    "a least value rises": (
        with_word(GPUS, minimum=1),
        "InferenceService v1alpha1 spec.engine.gpus",
        "minimum is 1 and was 0",
    ),
    "a bound is no longer inside": (
        with_word(GPUS, exclusiveMaximum=True),
        "InferenceService v1alpha1 spec.engine.gpus",
        "maximum is 16 exclusive and was 16",
    ),
    "a string gets shorter": (
        with_word(("spec", "baseModel", "name"), maxLength=49),
        "InferenceService v1alpha1 spec.baseModel.name",
        "maxLength is 49 and was 50",
    ),
    "a map's values get shorter": (
        with_word(("spec", "pod", "nodeSelector", "{}"), maxLength=62),
        "InferenceService v1alpha1 spec.pod.nodeSelector{}",
        "maxLength is 62 and was 63",
    ),
    "a list gets a least length": (
        with_word(MODELS, minItems=1),
        "InferenceService v1alpha1 spec.models",
        "minItems is 1 and was free",
    ),
    "a pattern changes": (
        with_word(("spec", "baseModel", "name"), pattern="^x"),
        "InferenceService v1alpha1 spec.baseModel.name",
        "pattern is ^x and was ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    ),
    "a default changes": (
        with_word((*ENGINE, "adapters", "slots"), default=8),
        "InferenceService v1alpha1 spec.engine.adapters.slots",
        "default is 8 and was 4",
    ),
    "a default goes": (
        lambda d: at(d, *GPUS).pop("default"),
        "InferenceService v1alpha1 spec.engine.gpus",
        "default is none and was 1",
    ),
    "a default is said where nothing was": (
        with_word(("spec", "replicas"), default=1),
        "InferenceService v1alpha1 spec.replicas",
        "default is 1 and was none",
    ),
    "a list is merged otherwise": (
        with_word(MODELS, **{"x-kubernetes-list-type": "atomic"}),
        "InferenceService v1alpha1 spec.models",
        "x-kubernetes-list-type is atomic and was map",
    ),
    "a list is merged by another key": (
        with_word(MODELS, **{"x-kubernetes-list-map-keys": ["version"]}),
        "InferenceService v1alpha1 spec.models",
        "x-kubernetes-list-map-keys is ['version'] and was ['name']",
    ),
    "a rule is new": (
        with_rule("self.engine.gpus < 16"),
        "InferenceService v1alpha1 spec",
        "there is a new rule: self.engine.gpus < 16",
    ),
    "a rule demands a field that is new": (
        fresh_with("has(self.fresh)"),
        "InferenceService v1alpha1 spec",
        "there is a new rule: has(self.fresh)",
    ),
    "a rule fixes a field that was free": (
        with_rule("self.gateway == oldSelf.gateway"),
        "InferenceService v1alpha1 spec",
        "there is a new rule: self.gateway == oldSelf.gateway",
    ),
    "a rule fixes the whole": (
        with_rule("self == oldSelf"),
        "InferenceService v1alpha1 spec",
        "there is a new rule: self == oldSelf",
    ),
    "a word that the check does not know": (
        with_word(ENGINE, nullable=True),
        "InferenceService v1alpha1 spec.engine",
        "nullable is True and was none",
    ),
}


@pytest.mark.parametrize(("change", "place", "what"), BREAKING.values(), ids=BREAKING)
def test_what_would_break_is_named_with_a_remedy(change: Change, place: str, what: str) -> None:
    (found,) = changed(change)
    assert (found.place, found.change) == (place, what)
    assert found.remedy
    assert str(found) == f"{place}: {what}; {found.remedy}"


def fresh_with_default(definition: Any) -> None:
    """As the generator writes it: in the field, and in the default of what holds it."""
    with_field(ENGINE, {**STRING, "default": "x"}, required=["fresh"])(definition)
    at(definition, *ENGINE)["default"]["fresh"] = "x"


HARMLESS: dict[str, Change] = {
    "nothing changes": lambda d: None,
    "a new optional field": with_field(ENGINE, STRING),
    "a new field with a default, required or not": fresh_with_default,
    "a new field that may not be changed": fresh_with("has(self.fresh) == has(oldSelf.fresh)"),
    "a new optional object with required fields": with_field(
        ENGINE, {"type": "object", "required": ["a"], "properties": {"a": STRING}}
    ),
    "a wider bound": with_word(GPUS, maximum=32),
    "a bound goes": lambda d: at(d, *GPUS).pop("maximum"),
    "a bound is inside that was not, and lower": with_word(GPUS, minimum=-1, exclusiveMinimum=True),
    "a longer string": with_word(("spec", "baseModel", "name"), maxLength=63),
    "a pattern goes": lambda d: at(d, "spec", "baseModel", "name").pop("pattern"),
    "a new value": lambda d: at(d, *ENGINE, "dtype")["enum"].append("Float8"),
    "another description": with_word(GPUS, description="Graphics cards."),
    "a rule goes": lambda d: at(d, "spec")[VALIDATIONS].pop(),
    "the same rules and values in other words and order": reordered,
    "a field is no longer required": lambda d: at(d, "spec").pop("required"),
    "another column": lambda d: version(d)["additionalPrinterColumns"].pop(),
    "one more short name": lambda d: d["spec"]["names"]["shortNames"].append("is"),
    "a further version": next_version,
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_breaks_nothing_passes(change: Change) -> None:
    assert changed(change) == []


def test_a_kind_that_is_gone_is_named() -> None:
    (found,) = breaks({NAME: BEFORE}, {})
    assert str(found).startswith(f"{NAME}: the kind is gone; ")


# --- releases in the tree -------------------------------------------------------------------------


def test_this_tree_keeps_a_release_and_breaks_none() -> None:
    # A kind that came later has no copy there.
    assert list((ROOT / FOLDER).glob("*/*.yaml"))
    assert complaints(ROOT) == []


def a_tree(root: Path, number: str = "1.0.0") -> Path:
    """A tree that has just been released."""
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{number}"\n')
    assert generate.main(["--release"], root) == 0
    return root


def with_a_field_more(root: Path) -> None:
    """As if the release had known a field that is gone since."""
    path = root / FOLDER / "1.0.0" / "inferenceservices.yaml"
    definition = yaml.safe_load(path.read_text())
    with_field(ENGINE, STRING)(definition)
    path.write_text(yaml.safe_dump(definition))


def test_the_check_fails_on_a_break_and_says_which_release_it_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_tree(tmp_path)
    assert generate.main(["--check"], tmp_path) == 0
    with_a_field_more(tmp_path)
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    shown = capsys.readouterr()
    assert "spec.engine.fresh: the field is gone; keep it" in shown.out
    assert "(released in 1.0.0)" in shown.out
    assert "crds/released/allowed.yaml" in shown.err


def test_a_break_that_is_allowed_passes_while_it_is_one(tmp_path: Path) -> None:
    a_tree(tmp_path)
    what = "InferenceService v1alpha1 spec.engine.fresh: the field is gone"
    allowed = tmp_path / FOLDER / "allowed.yaml"
    allowed.write_text(yaml.safe_dump([{"change": what, "reason": "it was never read."}]))
    assert complaints(tmp_path) == [f"crds/released/allowed.yaml: nothing does this: {what}"]
    with_a_field_more(tmp_path)
    assert complaints(tmp_path) == []
    allowed.write_text(yaml.safe_dump([{"change": what}]))
    with pytest.raises(ValueError, match="no reason is given"):
        complaints(tmp_path)


def test_a_release_is_kept_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_tree(tmp_path)
    assert generate.main(["--release"], tmp_path) == 0
    with_a_field_more(tmp_path)
    assert generate.main(["--release"], tmp_path) == 1
    assert "raise the version in pyproject.toml" in capsys.readouterr().err
