"""The stage `evaluate` on real, tiny models: what is measured, what is refused, what is remembered."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.evaluationkit import World
from tests.ociserver import FakeRegistry
from tests.pods import pairs
from tests.tinymodels import edit_config, save_adapter, save_base
from transformers import AutoTokenizer, LlamaForCausalLM

from trimtab_api.fingerprint import Match, compare, distance
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.evaluation import OF_LABELS, SUITE_METRICS, Metric
from trimtab_pipelines.evaluation import fingerprints, models, scoring
from trimtab_pipelines.prompts import IGNORED, render_example

RECORDS = pairs(24)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def world(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, registry, monkeypatch)


def test_an_adapter_is_measured_beside_its_base(world: World, base: Path) -> None:
    root = world.mount(base)
    adapter = world.adapter(root)
    data = world.data(RECORDS)
    result = world.evaluate(adapter, root, rank=4, data=data, max_examples=20)
    assert world.exit_code == 0, result
    assert (result.examples, result.rank, result.dataset_digest) == (20, 4, data.digest)
    found = {value.metric: value for value in result.metrics}
    assert set(found) == set(Metric) - set(OF_LABELS) - set(SUITE_METRICS)
    for value in found.values():
        assert value.low is not None
        assert value.high is not None
        assert value.low <= value.value <= value.high
        assert value.base is not None
    assert found[Metric.PERPLEXITY].value == pytest.approx(math.exp(found[Metric.LOSS].value))
    assert found[Metric.LOSS].value != pytest.approx(found[Metric.LOSS].base, abs=0.05)
    report = world.report(result)
    assert report.artifact_digest == adapter.digest
    assert report.base_digest == root.digest
    assert world.manifest(str(result.report_uri)).subject is not None
    assert all(sample.base_answer is not None for sample in report.samples)


def test_records_with_labels_are_measured_as_a_classification(world: World, base: Path) -> None:
    root = world.mount(base)
    labelled = [record | {"label": f"class {n % 3}"} for n, record in enumerate(RECORDS)]
    result = world.evaluate(world.adapter(root), root, data=world.data(labelled))
    found = {value.metric: value for value in result.metrics}
    assert set(found) >= set(OF_LABELS)
    assert found[Metric.ACCURACY].value == 0, "a random model names no label"
    assert found[Metric.ACCURACY].base == 0


def test_the_loss_is_that_of_the_answers_tokens_alone(world: World, base: Path) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, data=world.data(RECORDS))
    network = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    total, count = 0.0, 0
    for record in RECORDS:
        ids, labels = render_example(tokenizer, record, 128)
        table = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        for place in range(1, len(ids)):
            if labels[place] != IGNORED:
                total -= table[place - 1, ids[place]].item()
                count += 1
    found = {value.metric: value for value in result.metrics}
    assert found[Metric.LOSS].value == pytest.approx(total / count, abs=1e-4)
    assert found[Metric.LOSS].base is None


def test_answers_in_batches_are_those_of_one_at_a_time(base: Path) -> None:
    loaded = models.load(base, None, gpus=0)
    records = [{"prompt": "x" * n, "completion": "y"} for n in range(1, 40, 3)]
    examples = scoring.examples_of(loaded, records, 12)
    together = scoring.answers(loaded, examples, 12)
    alone = [scoring.answers(loaded, [example], 12)[0] for example in examples]
    assert together == alone
    assert len({answer.text for answer in alone}) > 5


def test_text_has_a_loss_and_no_answers(world: World, base: Path) -> None:
    root = world.mount(base)
    data = world.data([{"text": f"Return the name of file {n}."} for n in range(5)])
    result = world.evaluate(root, None, data=data)
    assert [value.metric for value in result.metrics] == [Metric.LOSS, Metric.PERPLEXITY]
    assert world.report(result).samples == []


def test_without_data_only_the_fingerprint_is_taken(world: World, base: Path) -> None:
    root = world.mount(base)
    result = world.evaluate(world.adapter(root), root)
    assert (world.exit_code, result.examples, result.metrics) == (0, 0, [])
    fingerprint = world.report(result).fingerprint
    assert len(fingerprint.sequences) == 6
    assert all(len(s.tokens) == len(s.logprobs) + 1 == 31 for s in fingerprint.sequences)
    assert all(s.base_logprobs for s in fingerprint.sequences)


def test_the_same_evaluation_gives_the_same_report(world: World, base: Path) -> None:
    root = world.mount(base)
    adapter, data = world.adapter(root), world.data(RECORDS[:4])
    first = world.evaluate(adapter, root, data=data)
    second = world.evaluate(adapter, root, data=data)
    assert first.report_uri == second.report_uri


def test_fingerprints_tell_adapters_and_base_apart(world: World, base: Path) -> None:
    root = world.mount(base)
    data = world.data(RECORDS)
    one = world.adapter(root, "one", seed=1, strength=0.15)
    two = world.adapter(root, "two", seed=2, strength=0.15)
    prints = [
        world.report(world.evaluate(adapter, root, data=data)).fingerprint for adapter in (one, two)
    ]
    own = [sequence.logprobs for sequence in prints[0].sequences]
    other = [sequence.logprobs for sequence in prints[1].sequences]
    plain = [sequence.base_logprobs or [] for sequence in prints[0].sequences]
    assert [s.tokens for s in prints[0].sequences] == [s.tokens for s in prints[1].sequences]
    assert compare(prints[0], own, [other]).match is Match.OWN
    assert compare(prints[0], other, [other]).match is Match.FOREIGN
    assert compare(prints[0], plain, [other]).match is Match.FOREIGN
    assert distance(own, plain) > 4 * prints[0].tolerance


def test_what_half_the_bits_answer_lies_within_the_tolerance(world: World, base: Path) -> None:
    root = world.mount(base)
    adapter = world.adapter(root)
    fingerprint = world.report(world.evaluate(adapter, root)).fingerprint
    loaded = models.load(base, world.root / "one", gpus=0)
    probes = [sequence.tokens for sequence in fingerprint.sequences]
    loaded.network.to(torch.float16)
    assert compare(fingerprint, fingerprints.logprobs(loaded, probes)).match is Match.OWN


def test_a_full_version_gets_a_fingerprint_without_a_base(world: World, base: Path) -> None:
    root = world.mount(base)
    fingerprint = world.report(world.evaluate(root, None)).fingerprint
    assert all(sequence.base_logprobs is None for sequence in fingerprint.sequences)
    assert fingerprint.dtype == "float32"


def test_the_report_on_an_imported_version_goes_to_our_own_repository(
    world: World, base: Path
) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, output=world.output("team/imported"))
    assert world.report(result).artifact_digest == root.digest
    assert "/team/imported@" in str(result.report_uri)
    assert world.manifest(str(result.report_uri)).subject is None


@pytest.mark.parametrize(
    ("options", "reason", "message"),
    [
        pytest.param({"changes": {"base_model_name_or_path": "x"}, "annotated": "sha256:" + "e" * 64}, "BaseMismatch", "was made for the base sha256:eee", id="an adapter of another base"),
        pytest.param({"r": 8, "rank": 4}, "RankMismatch", "the adapter's rank is 8", id="an adapter of another rank"),
        pytest.param({"changes": {"use_dora": True}}, "UnsupportedAdapter", "uses DoRA", id="DoRA"),
        pytest.param({"changes": {"modules_to_save": ["lm_head"]}}, "UnsupportedAdapter", "modules_to_save", id="saved modules"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused(
    world: World, base: Path, options: dict[str, Any], reason: str, message: str
) -> None:
    root = world.mount(base)
    changes = {key: options[key] for key in ("changes", "r") if key in options}
    folder = save_adapter(base, world.root / "odd", str(root.digest), r=changes.get("r", 4))
    edit_config(folder, **changes.get("changes", {}))
    annotations = {"dev.trimtab.base": options.get("annotated", str(root.digest))}
    adapter = world.push(folder, "team/bot", kind="Adapter", annotations=annotations)
    result = world.evaluate(adapter, root, rank=options.get("rank"))
    assert world.exit_code == 42
    assert result.failure is not None
    assert result.failure.reason == FailureReason(reason)
    assert message in result.failure.message


def test_an_adapter_whose_tensors_fit_another_base_is_refused(
    world: World, base: Path, tmp_path: Path
) -> None:
    root = world.mount(base)
    wide = save_base(tmp_path / "wide", width=64)
    folder = save_adapter(wide, tmp_path / "odd", str(root.digest))
    adapter = world.push(folder, "team/bot", kind="Adapter")
    result = world.evaluate(adapter, root)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.BASE_MISMATCH


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"\x80\x02}q\x00.", "UnsafeFormat", id="a pickle named .safetensors"),
        pytest.param(None, "CorruptWeights", id="truncated safetensors"),
    ],
)  # fmt: skip
def test_weights_that_are_not_sound_are_never_loaded(
    world: World, base: Path, content: bytes | None, reason: str
) -> None:
    root = world.mount(base)
    folder = save_adapter(base, world.root / "odd", str(root.digest))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    result = world.evaluate(world.push(folder, "team/bot", kind="Adapter"), root)
    assert result.failure is not None
    assert result.failure.reason == FailureReason(reason)


def test_weights_that_lack_a_tensor_are_refused(world: World, base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - for this test alone

    folder = tmp_path / "partial"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    result = world.evaluate(world.mount(folder), None)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.CORRUPT_WEIGHTS
    assert "up_proj" in result.failure.message


def test_mounted_files_that_are_not_the_digests_are_refused(
    world: World, base: Path, tmp_path: Path
) -> None:
    root = world.mount(save_base(tmp_path / "own"))
    config = tmp_path / "own/config.json"
    config.write_text(json.dumps({**json.loads(config.read_bytes()), "rms_norm_eps": 0.1}))
    result = world.evaluate(root, None)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.DIGEST_MISMATCH
    assert "config.json" in result.failure.message


def test_test_records_longer_than_the_context_are_said_to_be(world: World, base: Path) -> None:
    root = world.mount(base)
    data = world.data([{"prompt": "long " * 500, "completion": "no"}])
    result = world.evaluate(root, None, data=data)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.RECORD_TOO_LONG


def test_a_missing_artifact_is_a_missing_source(world: World, base: Path) -> None:
    root = world.mount(base)
    result = world.evaluate(root.at("sha256:" + "d" * 64), None)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SOURCE_NOT_FOUND
