"""Whether an adapter belongs to its base and can be served by vLLM. Pure but for reading headers.

What vLLM does not know it may ignore in silence and answer otherwise than the trained model: such an
adapter is refused here, before anything is served.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class AdapterFacts:
    """What is known of an adapter and what was declared of it."""

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    annotated_base: str | None
    annotated_rank: int | None
    declared_rank: int | None
    base_digest: str
    file_names: frozenset[str]


class Finding(NamedTuple):
    """What is wrong, and what to do about it."""

    reason: FailureReason
    message: str


def check_adapter(facts: AdapterFacts) -> None:
    """Raise for the first thing that is wrong."""
    for check in CHECKS:
        if (found := check(facts)) is not None:
            raise RunError(*found)


def facts_of(
    directory: Path,
    annotated_base: str | None,
    annotated_rank: str | None,
    declared_rank: int | None,
    base_digest: str,
) -> AdapterFacts:
    """Read what lies in a folder whose files have been found sound (`safety`)."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise RunError(
                FailureReason.UNSUPPORTED_ADAPTER,
                f"the artifact has no {name}; push the folder that peft's save_pretrained wrote",
            )
    config = json.loads((directory / CONFIG).read_bytes())
    if not isinstance(config, dict):
        raise RunError(FailureReason.UNSUPPORTED_ADAPTER, f"{CONFIG} is not an object")
    return AdapterFacts(
        config=config,
        shapes=tensor_shapes(directory / WEIGHTS),
        annotated_base=annotated_base,
        annotated_rank=int(annotated_rank) if annotated_rank and annotated_rank.isdigit() else None,
        declared_rank=declared_rank,
        base_digest=base_digest,
        file_names=frozenset(path.name for path in directory.iterdir()),
    )


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes from the header of a file that `safety.check_safetensors` has passed."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}


def not_lora(facts: AdapterFacts) -> Finding | None:
    kind = facts.config.get("peft_type")
    if kind == "LORA":
        return None
    return Finding(
        FailureReason.UNSUPPORTED_ADAPTER, f"the adapter is of type {kind}; only LORA is served"
    )


def of_another_base(facts: AdapterFacts) -> Finding | None:
    said = facts.annotated_base or facts.config.get("base_model_name_or_path")
    if said == facts.base_digest:
        return None
    return Finding(
        FailureReason.BASE_MISMATCH,
        f"the adapter was made for the base {said or 'that it does not name'}, and baseModel is "
        f"{facts.base_digest}; name its own base, or push it again with --base if that is wrong",
    )


def of_another_rank(facts: AdapterFacts) -> Finding | None:
    rank = facts.config.get("r")
    named = {"its manifest": facts.annotated_rank, "spec.artifact.rank": facts.declared_rank}
    for place, value in named.items():
        if value is not None and value != rank:
            return Finding(
                FailureReason.RANK_MISMATCH,
                f"the adapter's rank is {rank}, and {place} says {value}; declare {rank}",
            )
    for name, shape in facts.shapes.items():
        if "lora_A" in name and shape[0] != rank:
            return Finding(
                FailureReason.RANK_MISMATCH,
                f"{CONFIG} says rank {rank}, and the tensor {name} has {shape[0]}; push the "
                "adapter again",
            )
    return None


def uses_dora(facts: AdapterFacts) -> Finding | None:
    if facts.config.get("use_dora") or any("magnitude" in name for name in facts.shapes):
        return _unsupported("uses DoRA")
    return None


def saves_modules(facts: AdapterFacts) -> Finding | None:
    if facts.config.get("modules_to_save"):
        names = ", ".join(map(str, facts.config["modules_to_save"]))
        return _unsupported(f"replaces whole modules (modules_to_save: {names})")
    whole = next((name for name in facts.shapes if "lora_" not in name), None)
    return _unsupported(f"replaces a whole tensor ({whole})") if whole else None


def adds_tokens(facts: AdapterFacts) -> Finding | None:
    if facts.config.get("trainable_token_indices"):
        return _unsupported("trains single tokens (trainable_token_indices)")
    if facts.file_names & {"new_embeddings.safetensors", "added_tokens.json"}:
        return _unsupported("adds tokens to its base")
    return None


def has_patterns(facts: AdapterFacts) -> Finding | None:
    for key in ("rank_pattern", "alpha_pattern", "layer_replication"):
        if facts.config.get(key):
            return _unsupported(f"has settings for single layers ({key})")
    if facts.config.get("bias", "none") != "none" or facts.config.get("lora_bias"):
        return _unsupported("trains biases")
    return None


def _unsupported(what: str) -> Finding:
    return Finding(
        FailureReason.UNSUPPORTED_ADAPTER,
        f"the adapter {what}, which vLLM cannot serve; train it without that, or merge it into a "
        "full version",
    )


CHECKS: tuple[Callable[[AdapterFacts], Finding | None], ...] = (
    not_lora,
    of_another_base,
    uses_dora,
    saves_modules,
    adds_tokens,
    has_patterns,
    of_another_rank,
)
