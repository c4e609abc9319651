"""Models and adapters as files, the same bytes for the same weights.

Nothing that names a place, a date or a run may get in: the digest of these files is the identity
of the version.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trimtab_pipelines.training.output import write_json


def save_full(model: Any, tokenizer: Any, dtype: torch.dtype, directory: Path) -> None:
    """A whole model with its tokenizer, in the form of transformers."""
    model.to(dtype)
    model.config.dtype = dtype
    model.config.name_or_path = ""
    model.save_pretrained(str(directory), max_shard_size="5GB")
    tokenizer.save_pretrained(str(directory))


def save_adapter(model: Any, base_digest: str, directory: Path) -> None:
    """An adapter in the form of peft, as vLLM loads it; the base brings the tokenizer."""
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - slow, and only adapters need it

    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in sorted(
            get_peft_model_state_dict(model, save_embedding_layers=False).items()
        )
    }
    save_file(weights, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(directory / "adapter_config.json", adapter_config(model, base_digest))


def adapter_config(model: Any, base_digest: str) -> dict[str, Any]:
    """Only what decides what the adapter does."""
    config = model.peft_config["default"]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_digest,
        "inference_mode": True,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": sorted(config.target_modules),
        "bias": "none",
        "fan_in_fan_out": bool(config.fan_in_fan_out),
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
