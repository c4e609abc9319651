"""Which adapters are refused, and why."""

from dataclasses import replace
from typing import Any

import pytest

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.evaluation.adapters import AdapterFacts, check_adapter
from trimtab_pipelines.runtime import RunError

BASE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
GOOD = AdapterFacts(
    config={"peft_type": "LORA", "r": 8, "base_model_name_or_path": BASE, "bias": "none"},
    shapes={f"{LAYER}.lora_A.weight": (8, 32), f"{LAYER}.lora_B.weight": (32, 8)},
    annotated_base=BASE,
    annotated_rank=8,
    declared_rank=8,
    base_digest=BASE,
    file_names=frozenset({"adapter_config.json", "adapter_model.safetensors"}),
)


def config(**changes: Any) -> dict[str, Any]:
    return {"config": {**GOOD.config, **changes}}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="an adapter of ours"),
        pytest.param({"annotated_base": None, "annotated_rank": None}, id="one without annotations"),
        pytest.param({"declared_rank": None}, id="one whose rank nobody declared"),
        pytest.param(config(use_rslora=True), id="rank-stabilised scaling"),
        pytest.param(config(modules_to_save=[], rank_pattern={}), id="settings that are there but empty"),
    ],
)  # fmt: skip
def test_an_adapter_that_can_be_served_passes(changes: dict[str, Any]) -> None:
    check_adapter(replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        pytest.param({"annotated_base": OTHER}, "BaseMismatch", f"for the base {OTHER}", id="annotated with another base"),
        pytest.param({"annotated_base": None, **config(base_model_name_or_path="org/name")}, "BaseMismatch", "for the base org/name", id="configured with another base"),
        pytest.param({"annotated_base": None, **config(base_model_name_or_path=None)}, "BaseMismatch", "does not name", id="no base at all"),
        pytest.param({"declared_rank": 16}, "RankMismatch", "spec.artifact.rank says 16; declare 8", id="another rank declared"),
        pytest.param({"annotated_rank": 4}, "RankMismatch", "its manifest says 4", id="another rank annotated"),
        pytest.param({"shapes": {f"{LAYER}.lora_A.weight": (16, 32)}}, "RankMismatch", "has 16", id="tensors of another rank"),
        pytest.param(config(use_dora=True), "UnsupportedAdapter", "uses DoRA", id="DoRA"),
        pytest.param({"shapes": {f"{LAYER}.lora_magnitude_vector": (32,)}}, "UnsupportedAdapter", "uses DoRA", id="DoRA by its tensors"),
        pytest.param(config(modules_to_save=["lm_head"]), "UnsupportedAdapter", "modules_to_save: lm_head", id="saved modules"),
        pytest.param({"shapes": {**GOOD.shapes, "base_model.model.lm_head.weight": (320, 32)}}, "UnsupportedAdapter", "replaces a whole tensor", id="a saved module by its tensor"),
        pytest.param(config(trainable_token_indices=[3]), "UnsupportedAdapter", "single tokens", id="trained tokens"),
        pytest.param({"file_names": GOOD.file_names | {"added_tokens.json"}}, "UnsupportedAdapter", "adds tokens", id="added tokens"),
        pytest.param(config(rank_pattern={"q_proj": 4}), "UnsupportedAdapter", "rank_pattern", id="ranks by layer"),
        pytest.param(config(bias="all"), "UnsupportedAdapter", "trains biases", id="biases"),
        pytest.param(config(peft_type="IA3"), "UnsupportedAdapter", "of type IA3", id="another method"),
    ],
)  # fmt: skip
def test_an_adapter_that_cannot_be_served_is_refused(
    changes: dict[str, Any], reason: str, message: str
) -> None:
    with pytest.raises(RunError) as caught:
        check_adapter(replace(GOOD, **changes))
    assert caught.value.reason == FailureReason(reason)
    assert message in caught.value.message
