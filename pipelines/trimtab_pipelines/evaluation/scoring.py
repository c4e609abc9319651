"""What a loaded model says: losses of given answers, answers of its own. Batches by length, no gradients."""

from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import cross_entropy

from trimtab_pipelines.evaluation.models import Loaded
from trimtab_pipelines.evaluation.said import Answer, Example
from trimtab_pipelines.prompts import IGNORED, Record, has_answer, render_example, render_prompt

# Logits of one batch may take so many numbers: 256 MiB of float32.
_BATCH_LOGITS = 1 << 26
# Keys and values of one batch that is generated may take so many bytes.
_CACHE_BYTES_CPU = 1 << 29
_CACHE_BYTES_GPU = 1 << 32
_MOST_AT_ONCE = 256
# Of a record that is longer only the beginning is scored.
_LONGEST_EXAMPLE = 4096


def examples_of(loaded: Loaded, records: Sequence[Record], max_new_tokens: int) -> list[Example]:
    """The records that fit into the context together with an answer."""
    longest = min(loaded.context_length, _LONGEST_EXAMPLE)
    found = []
    for place, record in enumerate(records):
        tokens, labels = render_example(loaded.tokenizer, record, longest)
        prompt = [] if "text" in record else render_prompt(loaded.tokenizer, record)
        is_fitting = len(prompt) + min(max_new_tokens, longest // 2) <= longest
        if has_answer(labels) and is_fitting:
            is_cut = len(tokens) == longest
            found.append(Example(place, record, prompt, tokens, labels, is_cut))
    return found


@torch.inference_mode()
def losses(loaded: Loaded, examples: Sequence[Example]) -> list[tuple[float, int]]:
    """For each example the sum of the losses of its counted tokens, and their number."""
    found: list[tuple[float, int]] = [(0.0, 0)] * len(examples)
    room = max(1, _BATCH_LOGITS // loaded.vocabulary)
    for batch in _batches([len(example.tokens) for example in examples], room):
        tokens, mask = _padded([examples[i].tokens for i in batch], 0, left=False)
        labels, _ = _padded([examples[i].labels for i in batch], IGNORED, left=False)
        logits = loaded.network(
            input_ids=tokens.to(loaded.device), attention_mask=mask.to(loaded.device)
        ).logits
        targets = labels[:, 1:].to(loaded.device)
        each = cross_entropy(
            logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        sums = each.double().sum(dim=1).tolist()
        counts = (targets != IGNORED).sum(dim=1).tolist()
        for index, total, count in zip(batch, sums, counts, strict=True):
            found[index] = (total, count)
    return found


@torch.inference_mode()
def answers(loaded: Loaded, examples: Sequence[Example], max_new_tokens: int) -> list[Answer]:
    """Greedy answers to the prompts."""
    found = [Answer("", 0, is_finished=True)] * len(examples)
    lengths = [len(example.prompt) + max_new_tokens for example in examples]
    cache = _CACHE_BYTES_GPU if loaded.device.type == "cuda" else _CACHE_BYTES_CPU
    for batch in _batches(lengths, cache // loaded.cache_bytes_per_token):
        pad = loaded.network.generation_config.pad_token_id
        tokens, mask = _padded([examples[i].prompt for i in batch], pad, left=True)
        left = loaded.context_length - tokens.shape[1]
        made = loaded.network.generate(
            input_ids=tokens.to(loaded.device),
            attention_mask=mask.to(loaded.device),
            max_new_tokens=max(1, min(max_new_tokens, left)),
            eos_token_id=loaded.end_tokens or None,
        )
        for index, row in zip(batch, made[:, tokens.shape[1] :].tolist(), strict=True):
            found[index] = _answer(loaded, row)
    return found


def _answer(loaded: Loaded, row: list[int]) -> Answer:
    ends = set(loaded.end_tokens)
    end = next((place for place, token in enumerate(row) if token in ends), len(row))
    text: str = loaded.tokenizer.decode(row[:end], skip_special_tokens=True)
    return Answer(text.strip(), end, is_finished=end < len(row))


def _batches(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Indices of similar length together, so that little is computed for padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) >= _MOST_AT_ONCE or (len(batch) + 1) * lengths[batch[0]] > room):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _padded(
    rows: Sequence[Sequence[int]], filler: int, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    values, masks = [], []
    for row in rows:
        gap = width - len(row)
        padding, zeros, ones = [filler] * gap, [0] * gap, [1] * len(row)
        values.append([*padding, *row] if left else [*row, *padding])
        masks.append(zeros + ones if left else ones + zeros)
    return torch.tensor(values), torch.tensor(masks)
