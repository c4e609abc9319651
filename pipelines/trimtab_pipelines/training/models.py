"""Networks: made from scratch, or loaded from the mounted base and prepared for a method."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging as transformers_logging

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.finetunejob import (
    ScratchModel,
    TargetModules,
    TrainingMethod,
)
from trimtab_pipelines.networks import cannot_load, load_network
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.safety import check_model_directory

log = logging.getLogger(__name__)

# What it says (progress bars, a text longer than the context) is said better by us.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# Names that transformers' models give to the projections of attention; vLLM knows them all.
_ATTENTION = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "query_key_value", "c_attn"}
)


def scratch_model(scratch: ScratchModel, tokenizer: Any) -> LlamaForCausalLM:
    """A Llama with random weights and shared embeddings, as wide as asked and as small as it can be."""
    width, odd = divmod(scratch.hidden_size, scratch.heads)
    if odd or width % 2:
        raise RunError(
            FailureReason.UNSUPPORTED_MODEL,
            f"baseModel.scratch.hiddenSize ({scratch.hidden_size}) must be an even multiple of "
            f"heads ({scratch.heads}).",
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=scratch.hidden_size,
        # Llama's ratio for gated layers, rounded up to what processors like.
        intermediate_size=-(-scratch.hidden_size * 8 // 3 // 32) * 32,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.heads,
        max_position_embeddings=scratch.context_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
        dtype="float32",
    )
    config._attn_implementation = "sdpa"  # noqa: SLF001 - the only way without from_pretrained
    return LlamaForCausalLM(config)


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model on disk; nothing is downloaded and no code of others is run."""
    try:
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_load("tokenizer", error) from error


def context_length(directory: Path) -> int | None:
    """The longest input of a model on disk, if it says."""
    try:
        config = AutoConfig.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise cannot_load("configuration", error) from error
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def load_base(directory: Path, method: TrainingMethod, device: torch.device) -> Any:
    """The base as the method wants it.

    On a GPU frozen weights are bfloat16. Weights that are trained stay float32, because the steps
    of an optimiser are too small for bfloat16; sums are made in bfloat16 by autocast all the same.
    """
    check_model_directory(directory)
    is_frozen = method.full is None
    dtype = torch.bfloat16 if device.type == "cuda" and is_frozen else torch.float32
    quantization = None
    if method.qlora is not None:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = load_network(
        directory, dtype=dtype, quantization_config=quantization, device_map={"": device}
    )
    return _as_on_any_cpu(model) if method.qlora is not None and device.type == "cpu" else model


def _as_on_any_cpu(model: Any) -> Any:
    """Four-bit layers that keep their one form.

    On CPUs with AVX512-BF16 bitsandbytes packs weights anew when a layer is first evaluated: it fails
    on layers that are narrower than a block, and results would depend on the kind of CPU.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def with_adapter(model: Any, method: TrainingMethod) -> Any:
    """The model with a fresh adapter, which starts as the identity."""
    settings = method.qlora or method.lora
    if settings is None:
        return model
    import peft  # noqa: PLC0415 - seconds that a run of all weights does not need

    if method.qlora is not None:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_target_modules(model, settings.target_modules),
        bias="none",
    )
    return peft.get_peft_model(model, config)


def logits_at(model: Any, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """The logits at some places of a batch, counted through its rows one after the other.

    Where nothing counts, the product with the whole vocabulary is not even made: for prompts that
    is the better part of a small model's work, and of a large one's memory.
    """
    head = model.get_output_embeddings()
    if head is None:
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
        return logits.flatten(0, 1).index_select(0, places)

    def chosen(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden, *others = given
        # Still a batch, of one row: what comes after the head may expect three dimensions.
        return hidden.flatten(0, 1).index_select(0, places).unsqueeze(0), *others

    hook = head.register_forward_pre_hook(chosen)
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits.squeeze(0)


def _target_modules(model: Any, wanted: TargetModules) -> str | list[str]:
    if wanted is TargetModules.ALL_LINEAR:
        return "all-linear"
    found = {name.rpartition(".")[2] for name, _ in model.named_modules()} & _ATTENTION
    if not found:
        raise RunError(
            FailureReason.UNSUPPORTED_MODEL,
            f"{type(model).__name__} has no attention layers of a known name; "
            "use targetModules: AllLinear.",
        )
    return sorted(found)
