"""The candidate and its base as one loaded network: an adapter that can be switched off, or a model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when transformers is imported: everything is on the disk.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.evaluation.adapters import WEIGHTS, tensor_shapes
from trimtab_pipelines.networks import LOADING_ERRORS, cannot_load, first_line, load_network
from trimtab_pipelines.prompts import Tokenizer
from trimtab_pipelines.runtime import RunError

transformers_logging.disable_progress_bar()

# A transformers or peft model: neither library publishes types.
Network = Any


@dataclass(frozen=True)
class Loaded:
    """What is evaluated."""

    network: Network
    tokenizer: Tokenizer
    is_adapter: bool
    context_length: int
    device: torch.device

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """The base alone for as long as this lasts."""
        with self.network.disable_adapter() if self.is_adapter else nullcontext():
            yield

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(self.network.parameters()).dtype
        return dtype

    @property
    def cache_bytes_per_token(self) -> int:
        """What generation keeps of each token of each sequence: keys and values of all layers."""
        config = self.network.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        shared = getattr(config, "num_key_value_heads", None) or heads
        layers: int = config.num_hidden_layers
        return 2 * layers * int(shared * width) * self.dtype.itemsize

    @property
    def vocabulary(self) -> int:
        """How many tokens the network gives logits for."""
        return int(self.network.get_output_embeddings().weight.shape[0])

    @property
    def end_tokens(self) -> list[int]:
        """What ends an answer."""
        said = self.network.generation_config.eos_token_id
        own = self.tokenizer.eos_token_id
        tokens = said if isinstance(said, list) else [said]
        return sorted({token for token in [*tokens, own] if token is not None})


def load(model: Path, adapter: Path | None, *, gpus: int) -> Loaded:
    """Load from folders whose files have been verified; nothing is downloaded, no foreign code runs.

    On a CPU everything is float32, on a GPU the number format of the weights.
    """
    device = torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")
    network = load_network(model, dtype=torch.float32 if device.type == "cpu" else "auto")
    if network.dtype == torch.float32 and device.type == "cuda":
        network = network.to(torch.bfloat16)  # what engines make of float32 on a GPU
    tokenizer = _tokenizer(model)
    context = getattr(network.config.get_text_config(), "max_position_embeddings", None) or 2048
    ends = network.generation_config.eos_token_id
    # The model's own may ask for sampling and penalties: figures need the plain greedy answer.
    network.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=_pad(tokenizer, ends)
    )
    if adapter is not None:
        network = _with_adapter(network, adapter)
    network = network.to(device).eval()
    return Loaded(network, tokenizer, adapter is not None, context, device)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except LOADING_ERRORS as error:
        raise cannot_load("tokenizer", error) from error
    return tokenizer


def _with_adapter(network: Network, adapter: Path) -> Network:
    from peft import PeftModel, get_peft_model_state_dict  # noqa: PLC0415 - not for full versions

    try:
        adapted = PeftModel.from_pretrained(network, str(adapter), local_files_only=True)
    except LOADING_ERRORS as error:
        raise _foreign(first_line(error)) from error
    # Told not to look for the base's vocabulary: its name is a digest.
    known = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    stray = sorted(set(tensor_shapes(adapter / WEIGHTS)) ^ known)
    if stray:
        raise _foreign(f"{stray[0]} has no counterpart")
    return adapted


def _foreign(detail: str) -> RunError:
    return RunError(
        FailureReason.BASE_MISMATCH,
        f"the adapter does not fit its base ({detail}); name the base that it was trained on",
    )


def _pad(tokenizer: Tokenizer, ends: int | list[int] | None) -> int:
    own = getattr(tokenizer, "pad_token_id", None)
    if own is not None:
        return int(own)
    first = ends[0] if isinstance(ends, list) else ends
    return int(first if first is not None else tokenizer.eos_token_id or 0)
