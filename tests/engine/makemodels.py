"""Writes a tiny random Llama and LoRA adapters that differ clearly, with the fingerprint of each.

Runs in the engine's environment (torch, transformers, peft), as a program of its own: the tests
that use it import none of these. Prints nothing; everything is in the directory that it is given.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [
    "the cat sat on the mat",
    "return the current file",
    "list of names",
    "one two three four",
] * 20
CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
PROBES = [
    [1, 5, 9, 13, 20, 31, 7, 44],
    [1, 60, 61, 62, 63, 12, 11],
    [2, 30, 33, 36, 39, 42, 45, 48, 51],
]
ADAPTERS = {"red": 11, "blue": 22}


def tokenizer_at(directory: Path) -> int:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHAT
    fast.save_pretrained(directory)
    return int(fast.vocab_size)


def base_at(directory: Path) -> LlamaForCausalLM:
    torch.manual_seed(7)
    size = tokenizer_at(directory)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).float().eval()
    model.save_pretrained(directory, safe_serialization=True)
    return model


def logprobs(model: torch.nn.Module, tokens: list[int]) -> list[float]:
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float()
    table = torch.log_softmax(logits, dim=-1)
    return [round(float(table[i, token]), 6) for i, token in enumerate(tokens[1:])]


def main(directory: Path) -> None:
    base = base_at(directory / "base")
    reference = [logprobs(base, tokens) for tokens in PROBES]
    found: dict[str, object] = {"base": fingerprint(reference, None)}
    for name, seed in ADAPTERS.items():
        torch.manual_seed(seed)
        fresh = LlamaForCausalLM.from_pretrained(directory / "base").float()
        config = LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False
        )
        model = get_peft_model(fresh, config).eval()
        model.save_pretrained(directory / name, safe_serialization=True)
        found[name] = fingerprint([logprobs(model, tokens) for tokens in PROBES], reference)
    (directory / "fingerprints.json").write_text(json.dumps(found))


def fingerprint(own: list[list[float]], base: list[list[float]] | None) -> dict[str, object]:
    sequences = [
        {"tokens": tokens, "logprobs": own[i], "baseLogprobs": base[i] if base else None}
        for i, tokens in enumerate(PROBES)
    ]
    return {"dtype": "float32", "tolerance": 0.01, "sequences": sequences}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
