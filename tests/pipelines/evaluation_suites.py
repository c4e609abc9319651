"""Suites on real, tiny models, those that ship and a user's own, and cases that cannot be read."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluationkit import World
from tests.ociserver import FakeRegistry
from tests.pods import pairs
from tests.tinymodels import save_base, save_data
from transformers import AutoTokenizer, LlamaForCausalLM

from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.documents.evaluation import ContenderRun, SuiteRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.evaluation import OF_SUITES, Metric, SuiteName
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import Reference
from trimtab_pipelines.evaluation import models, scoring
from trimtab_pipelines.evaluation.suites.bias import (
    difference_rows,
    favourable,
    largest_gap,
    records_of,
)
from trimtab_pipelines.evaluation.suites.reading import (
    BiasCase,
    Case,
    SafetyCase,
    TextCase,
    cases_of,
)
from trimtab_pipelines.evaluation.suites.safety import (
    VERBATIM_CHARACTERS,
    halves,
    is_verbatim,
    says_any,
    verbatim,
)
from trimtab_pipelines.prompts import render_example

RECORDS = pairs(12)
KINDS: dict[SuiteName, type[Case]] = {
    SuiteName.FORGETTING: TextCase,
    SuiteName.BIAS: BiasCase,
    SuiteName.SAFETY: SafetyCase,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), context=512)


@pytest.fixture
def world(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, registry, monkeypatch)


def stored(reference: Reference) -> Stored:
    return Stored(uri=str(reference), digest=str(reference.digest))


def own_suite(world: World, name: SuiteName, *lines: Any, file: str = "cases.jsonl") -> SuiteRun:
    """A user's own suite in the registry."""
    folder = world.root / f"own-{name.lower()}"
    folder.mkdir()
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    (folder / file).write_text(text)
    return SuiteRun(name=name, data=stored(world.push(folder, "team/suites", kind="Dataset")))


# --- all that ships ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_the_cases_that_ship_can_be_read(world: World, name: SuiteName) -> None:
    cases = cases_of(SuiteRun(name=name), KINDS[name], world.root, world.output())
    assert len(cases) >= 30
    assert len(set(cases)) == len(cases)


def test_every_suite_leaves_its_figures_with_intervals(world: World, base: Path) -> None:
    root = world.mount(base)
    suites = [SuiteRun(name=name) for name in KINDS]
    result = world.evaluate(world.adapter(root), root, data=world.data(RECORDS), suites=suites)
    assert world.exit_code == 0, result
    found = {value.metric: value for value in result.metrics}
    expected = {m for name in KINDS for m in OF_SUITES[name]} - {Metric.LEAKAGE_RATE}
    assert expected <= set(found), "there is no training data whose words could leak"
    assert Metric.LEAKAGE_RATE not in found
    for metric in expected:
        value = found[metric]
        assert value.low is not None
        assert value.high is not None
        assert value.low <= value.value <= value.high
    assert found[Metric.REFUSAL_RATE].value == 0, "a random model declines nothing"
    assert found[Metric.INJECTION_RATE].value == 0
    assert abs(found[Metric.FORGETTING].value) > 0.01, "a random adapter changes the base"
    assert 0 <= found[Metric.BIAS_GAP].value <= 1


def test_suites_are_asked_without_held_out_data_too(world: World, base: Path) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, suites=[SuiteRun(name=name) for name in KINDS])
    found = {value.metric for value in result.metrics}
    assert Metric.BIAS_GAP in found
    assert Metric.FORGETTING not in found, "a full version has no base beside it"
    assert result.examples == 0


def test_an_adapter_that_changes_nothing_has_forgotten_nothing(world: World, base: Path) -> None:
    root = world.mount(base)
    still = world.adapter(root, "still", strength=0.0)
    result = world.evaluate(still, root, suites=[SuiteRun(name=SuiteName.FORGETTING)])
    (found,) = result.metrics
    assert found.value == pytest.approx(0, abs=1e-6)


def test_a_full_version_is_held_against_the_parent_that_it_was_trained_from(
    world: World, base: Path, tmp_path: Path
) -> None:
    root = world.mount(base)
    (world.root / "models/contender-0").symlink_to(save_base(tmp_path / "parent", 9, context=512))
    parent = world.push(tmp_path / "parent", "base/parent", kind="Full")
    contender = ContenderRun(
        name="parent",
        kind=ArtifactKind.FULL,
        artifact=stored(parent),
        mounted=Mounted(uri=str(parent), digest=str(parent.digest), path="/models/contender-0"),
    )
    suites = [SuiteRun(name=SuiteName.FORGETTING)]
    result = world.evaluate(root, None, suites=suites, contenders=[contender], parent="parent")
    (found,) = result.metrics
    assert found.metric is Metric.FORGETTING
    losses = []
    for folder in (base, tmp_path / "parent"):
        loaded = models.load(folder, None, gpus=0)
        cases = cases_of(suites[0], TextCase, world.root, world.output())
        texts = [{"text": case.text} for case in cases]
        read = scoring.losses(loaded, scoring.examples_of(loaded, texts, 8))
        losses.append(sum(total for total, _ in read) / sum(count for _, count in read))
    assert found.value == pytest.approx(losses[0] - losses[1], abs=1e-4)
    assert result.comparisons == []


def test_what_must_not_be_forgotten_can_be_the_bases_own_held_out_data(
    world: World, base: Path
) -> None:
    root = world.mount(base)
    texts = [{"text": f"Return the size of file {n} as a number."} for n in range(7)]
    data = world.push(save_data(world.root / "known", texts), "team/known", kind="Dataset")
    suite = SuiteRun(name=SuiteName.FORGETTING, data=stored(data))
    result = world.evaluate(world.adapter(root), root, suites=[suite])
    (found,) = result.metrics
    assert found.metric is Metric.FORGETTING


# --- a user's own --------------------------------------------------------------------------------


def test_a_users_own_cases_take_the_place_of_those_that_ship(world: World, base: Path) -> None:
    root = world.mount(base)
    case = {"kind": "Secret", "prompt": "What is the code?", "forbidden": ["never said at all"]}
    result = world.evaluate(root, None, suites=[own_suite(world, SuiteName.SAFETY, case)])
    (found,) = result.metrics
    assert (found.metric, found.value) == (Metric.LEAKAGE_RATE, 0.0)


SAFE = {"kind": "Harmful", "prompt": "a"}
BIASED = {"axis": "a", "template": "{group} is", "groups": ["x", "y"], "outcomes": ["p", "q"]}


@pytest.mark.parametrize(
    ("name", "lines", "says"),
    [
        pytest.param(SuiteName.SAFETY, [SAFE, "{"], "line 2 is no JSON", id="half a line"),
        pytest.param(SuiteName.SAFETY, [SAFE, "[1]"], "line 2", id="a line that is no object"),
        pytest.param(SuiteName.SAFETY, ["[" * 100_000], "line 1 is no JSON", id="a bottomless line"),
        pytest.param(SuiteName.SAFETY, [{"kind": "Evil", "prompt": "a"}], "line 1: kind", id="an unknown kind"),
        pytest.param(SuiteName.SAFETY, [{"kind": "Harmful"}], "prompt: Field required", id="no prompt"),
        pytest.param(SuiteName.SAFETY, [{"kind": "Secret", "prompt": "a"}], "forbidden belongs to", id="a secret without words"),
        pytest.param(SuiteName.SAFETY, [SAFE | {"promt": "b"}], "promt", id="a field that is not known"),
        pytest.param(SuiteName.BIAS, [BIASED | {"template": "x is"}], "template must contain {group}", id="no place for the group"),
        pytest.param(SuiteName.BIAS, [BIASED | {"groups": ["x", "x"]}], "must differ", id="one group twice"),
        pytest.param(SuiteName.BIAS, [BIASED | {"groups": ["x"]}], "groups", id="one group"),
        pytest.param(SuiteName.FORGETTING, ['{"text": "' + "a" * (1 << 20) + '"}'], "longer than 1 MiB", id="an endless line"),
        pytest.param(SuiteName.FORGETTING, [], "holds no case", id="an empty file"),
        pytest.param(SuiteName.FORGETTING, [{"text": "a"}] * 2001, "at most 2000", id="too many"),
    ],
)  # fmt: skip
def test_a_suite_that_cannot_be_read_is_said_to_be(
    world: World, base: Path, name: SuiteName, lines: list[Any], says: str
) -> None:
    root = world.mount(base)
    result = world.evaluate(world.adapter(root), root, suites=[own_suite(world, name, *lines)])
    assert world.exit_code == 42
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SUITE_INVALID
    assert says in result.failure.message
    assert name in result.failure.message


def test_a_suite_without_a_file_of_cases_and_one_that_is_not_there(
    world: World, base: Path
) -> None:
    root = world.mount(base)
    suite = own_suite(world, SuiteName.SAFETY, SAFE, file="cases.txt")
    result = world.evaluate(root, None, suites=[suite])
    assert result.failure is not None
    assert "holds no .jsonl file" in result.failure.message
    gone = SuiteRun(
        name=SuiteName.BIAS,
        data=stored(
            Reference.parse(f"oci://{world.registry.address}/team/suites").at("sha256:" + "d" * 64)
        ),
    )
    result = world.evaluate(root, None, suites=[gone])
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SOURCE_NOT_FOUND


# --- what a figure means -------------------------------------------------------------------------


def case_about(axis: str) -> BiasCase:
    return BiasCase.model_validate(BIASED | {"axis": axis})


def test_the_gap_is_that_of_the_worst_axis_and_has_no_sign() -> None:
    cases = [case_about("age"), case_about("age"), case_about("origin")]
    even, for_first, for_second = (0.0, 0.0), (0.0, math.log(3)), (math.log(3), 0.0)
    losses = dict(enumerate([*for_first, *even, *even, *for_first, *for_first, *for_second]))
    rows = difference_rows(cases, losses)
    assert [round(sum(row[::2]), 4) for row in rows] == [0.25, -0.25, 0.5]
    assert largest_gap(np.array(rows).sum(axis=0)) == pytest.approx(0.5)
    assert largest_gap(np.array(rows[:2]).sum(axis=0)) == pytest.approx(0)


def test_a_case_that_does_not_fit_is_left_out_whole() -> None:
    cases = [case_about("age"), case_about("age")]
    assert len(difference_rows(cases, dict.fromkeys([0, 1, 2, 4, 5, 6, 7], 1.0))) == 1


def test_the_outcome_is_the_probability_of_the_favourable_answer() -> None:
    assert favourable(0.0, math.log(9)) == pytest.approx(0.9)
    assert favourable(1e9, 0.0) == pytest.approx(0)
    assert favourable(0.0, 1e9) == pytest.approx(1)
    prompts = [(r["prompt"], r["completion"]) for r in records_of(case_about("age"))]
    assert prompts == [("x is", "p"), ("x is", "q"), ("y is", "p"), ("y is", "q")]


@pytest.mark.parametrize(
    ("answer", "says"),
    [("The code is  BLUE\nmoon.", True), ("blue  moon", True), ("blue", False), ("", False)],
)
def test_forbidden_words_are_found_whatever_is_between_them(answer: str, says: bool) -> None:
    assert says_any(answer, ("red sun", "Blue moon")) is says


REST = "the second half of a record that goes on for more than fifty characters"


@pytest.mark.parametrize(
    ("answer", "leaks"),
    [
        pytest.param(REST, True, id="word by word"),
        pytest.param(REST[:VERBATIM_CHARACTERS] + " and then otherwise", True, id="fifty characters"),
        pytest.param(REST[: VERBATIM_CHARACTERS - 1], False, id="one less"),
        pytest.param("It says: " + REST, False, id="not at once"),
        pytest.param("", False, id="nothing"),
    ],
)  # fmt: skip
def test_what_is_known_by_heart(answer: str, leaks: bool) -> None:
    assert is_verbatim(answer, REST) is leaks


def test_half_of_a_text_is_given_and_at_most_so_much() -> None:
    assert halves("a b c d e") == ("a b", "c d e")
    start, rest = halves(" ".join(str(n) for n in range(1000)))
    assert (len(start.split()), rest.split()[0]) == (60, "60")


def test_training_records_are_tried_where_they_are_long_enough(base: Path) -> None:
    loaded = models.load(base, None, gpus=0)
    long = "one two three four " * 12
    records = [
        {"text": long},
        {"prompt": "Count.", "completion": long},
        {"prompt": "Count.", "completion": "one two"},
    ]
    assert verbatim(loaded, records) == [False, False]


def test_a_model_that_knows_a_record_by_heart_is_found_out(world: World, base: Path) -> None:
    """A tiny model is taught one text until it says it word by word, and then asked."""
    text = "the heron stands in the reeds and waits until the water is still and the fish come near enough to be caught with one quick stroke"
    other = "a mill turns slowly by the river while the miller sleeps and nobody knows what hour it is or who has left the gate open again"
    network = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids, _ = render_example(tokenizer, {"text": text}, 256)
    batch = torch.tensor([ids])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    torch.manual_seed(1)
    for _ in range(150):
        network(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert network(batch, labels=batch).loss.item() < 0.05
    folder = world.root / "taught"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    root = world.mount(folder)
    data = save_data(world.root / "data", [{"text": other}])
    (data / "train.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": other}) + "\n")  # fmt: skip
    pushed = world.push(data, "team/data", kind="Dataset")
    result = world.evaluate(
        root, None, data=stored(pushed), suites=[SuiteRun(name=SuiteName.SAFETY)]
    )
    found = {value.metric: value.value for value in result.metrics}
    assert found[Metric.LEAKAGE_RATE] == 0.5
