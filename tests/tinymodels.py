"""Tiny models on disk for tests of the training image: a Llama with a tokenizer, and adapters of it.

Imports torch; only tests that need it import this.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tests.tinyruns import task_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trimtab_pipelines.prepared import write_split

TEXT = [
    f"Return the {word} of the file as a {kind}."
    for word in ("name", "size", "lines")
    for kind in ("string", "list", "number")
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """A byte-level BPE of some 300 tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXT, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    made.chat_template = template
    return made


def save_base(directory: Path, seed: int = 7, context: int = 128, width: int = 32) -> Path:
    """A random Llama whose answers depend clearly on what is asked."""
    torch.manual_seed(seed)
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).float().save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


def save_adapter(
    base: Path,
    directory: Path,
    base_digest: str,
    seed: int = 11,
    strength: float = 0.3,
    **options: Any,
) -> Path:
    """A LoRA adapter of the base with random weights."""
    network = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        **options,
    }
    adapted = get_peft_model(network, LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, strength)
    adapted.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    edit_config(directory, base_model_name_or_path=base_digest)
    return directory


def edit_config(directory: Path, **changes: Any) -> None:
    """Change fields of an adapter's configuration."""
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}, sort_keys=True))


def save_data(directory: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Prepared data whose test split has these records."""
    directory.mkdir(parents=True, exist_ok=True)
    write_split(directory, "test", task_of(records), records)
    (directory / "dataset.json").write_text("{}")
    return directory
