"""A version beside others on real, tiny models: the same examples, one network at a time, and trouble."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.evaluationkit import World
from tests.ociserver import FakeRegistry
from tests.pods import pairs
from tests.tinymodels import save_adapter, save_base

from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.documents.evaluation import ComparisonWanted, ContenderRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import Reference

RECORDS = pairs(24)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def world(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, registry, monkeypatch)


def adapter_of(artifact: Reference, base: Reference, path: str = "/models/base") -> ContenderRun:
    return ContenderRun(
        name="other",
        kind=ArtifactKind.ADAPTER,
        artifact=Stored(uri=str(artifact), digest=str(artifact.digest)),
        rank=4,
        base=Mounted(uri=str(base), digest=str(base.digest), path=path),
    )


def mounted(world: World, folder: Path, number: int = 0) -> tuple[Reference, str]:
    """Another model image in the pod."""
    path = f"/models/contender-{number}"
    (world.root / path.lstrip("/")).symlink_to(folder)
    return world.push(folder, "base/other", kind="Full"), path


def beside(contender: ContenderRun, *metrics: Metric) -> dict[str, Any]:
    wanted = [
        ComparisonWanted(metric=metric, confidence=0.95, versions=["other"])
        for metric in metrics or (Metric.LOSS,)
    ]
    return {"contenders": [contender], "comparisons": wanted}


def test_a_version_is_ahead_of_one_that_is_worse_by_what_both_measure_alone(
    world: World, base: Path
) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    one, two = world.adapter(root, "one", seed=1), world.adapter(root, "two", seed=2)
    alone = {
        name: {m.metric: m.value for m in world.evaluate(each, root, data=data).metrics}
        for name, each in (("one", one), ("two", two))
    }
    contender = adapter_of(two, root)
    result = world.evaluate(
        one, root, data=data, **beside(contender, Metric.LOSS, Metric.PERPLEXITY, Metric.ROUGE_L)
    )
    found = {c.metric: c for c in result.comparisons}
    expected = {
        Metric.LOSS: alone["two"][Metric.LOSS] - alone["one"][Metric.LOSS],
        Metric.PERPLEXITY: 1 - alone["one"][Metric.PERPLEXITY] / alone["two"][Metric.PERPLEXITY],
        Metric.ROUGE_L: alone["one"][Metric.ROUGE_L] - alone["two"][Metric.ROUGE_L],
    }
    for metric, difference in expected.items():
        each = found[metric]
        assert each.difference == pytest.approx(difference, abs=1e-4)
        assert each.value == pytest.approx(alone["two"][metric], rel=1e-4)
        assert each.low is not None
        assert each.high is not None
        assert each.low <= difference + 1e-4
        assert each.high >= difference - 1e-4
        assert (each.examples, each.version, each.problem) == (24, "other", None)
    report = world.report(result)
    assert report.comparisons == result.comparisons
    assert report.resampling is not None
    assert report.resampling.resamples == 2000


def test_a_version_beside_itself_differs_by_nothing(world: World, base: Path) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    one = world.adapter(root)
    result = world.evaluate(
        one, root, data=data, **beside(adapter_of(one, root), Metric.LOSS, Metric.BLEU)
    )
    for found in result.comparisons:
        assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_a_contender_on_another_base_is_measured_on_its_own(
    world: World, base: Path, tmp_path: Path
) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    folder = save_base(tmp_path / "wide", seed=3, width=64)
    other, path = mounted(world, folder)
    adapter = world.push(
        save_adapter(folder, tmp_path / "theirs", str(other.digest)),
        "team/bot",
        kind="Adapter",
        annotations={"dev.trimtab.base": str(other.digest)},
    )
    result = world.evaluate(
        world.adapter(root), root, data=data, **beside(adapter_of(adapter, other, path))
    )
    (found,) = result.comparisons
    assert (found.problem, found.examples) == (None, 24)
    assert found.difference != 0


def test_a_full_version_is_held_against_a_full_one(
    world: World, base: Path, tmp_path: Path
) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    other, path = mounted(world, save_base(tmp_path / "second", seed=9))
    contender = ContenderRun(
        name="other",
        kind=ArtifactKind.FULL,
        artifact=Stored(uri=str(other), digest=str(other.digest)),
        mounted=Mounted(uri=str(other), digest=str(other.digest), path=path),
    )
    result = world.evaluate(root, None, data=data, **beside(contender, Metric.EXACT_MATCH))
    (found,) = result.comparisons
    assert (found.problem, found.examples, found.value) == (None, 24, 0.0)


def test_a_contender_that_is_gone_costs_the_version_nothing(world: World, base: Path) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    gone = adapter_of(Reference.parse(f"oci://{world.registry.address}/team/bot").at("sha256:" + "d" * 64), root)  # fmt: skip
    result = world.evaluate(world.adapter(root), root, data=data, **beside(gone))
    assert world.exit_code == 0
    (found,) = result.comparisons
    assert found.problem is not None
    assert found.problem.startswith(FailureReason.SOURCE_NOT_FOUND)
    assert (found.difference, found.examples) == (None, 0)
    assert len(result.metrics) > 1


def test_a_contender_whose_weights_are_broken_costs_the_version_nothing(
    world: World, base: Path
) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    folder = save_adapter(base, world.root / "odd", str(root.digest))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    broken = adapter_of(world.push(folder, "team/bot", kind="Adapter"), root)
    result = world.evaluate(world.adapter(root), root, data=data, **beside(broken))
    (found,) = result.comparisons
    assert found.problem is not None
    assert found.problem.startswith(FailureReason.CORRUPT_WEIGHTS)


def without_numbers(folder: Path) -> Path:
    """A model whose weights hold NaN."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_contender_that_gives_no_numbers_costs_the_version_nothing(
    world: World, base: Path, tmp_path: Path
) -> None:
    root, data = world.mount(base), world.data(RECORDS)
    other, path = mounted(world, without_numbers(save_base(tmp_path / "nan")))
    contender = ContenderRun(
        name="other",
        kind=ArtifactKind.FULL,
        artifact=Stored(uri=str(other), digest=str(other.digest)),
        mounted=Mounted(uri=str(other), digest=str(other.digest), path=path),
    )
    result = world.evaluate(root, None, data=data, **beside(contender))
    (found,) = result.comparisons
    assert found.problem is not None
    assert found.problem.startswith(FailureReason.LOSS_NOT_FINITE)


def test_a_version_that_gives_no_numbers_is_not_evaluated(world: World, tmp_path: Path) -> None:
    root = world.mount(without_numbers(save_base(tmp_path / "nan")))
    result = world.evaluate(root, None, data=world.data(RECORDS))
    assert world.exit_code == 42
    assert result.failure is not None
    assert result.failure.reason == FailureReason.LOSS_NOT_FINITE
    assert "24 of 24 examples" in result.failure.message


def test_a_model_that_never_stops_is_cut_off_and_garbage_scores_nothing(
    world: World, base: Path
) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, data=world.data(RECORDS))
    found = {m.metric: m.value for m in result.metrics}
    assert found[Metric.EXACT_MATCH] == 0
    assert found[Metric.ROUGE_L] < 0.2
    samples = world.report(result).samples
    assert samples
    assert max(len(sample.answer) for sample in samples) < 100
