"""The fingerprint: what a version and its base say to fixed probes, and how exact that is."""

import hashlib
import math
from collections.abc import Sequence

import torch

from trimtab_api.fingerprint import Fingerprint, FingerprintSequence, distance
from trimtab_pipelines.evaluation.models import Loaded
from trimtab_pipelines.evaluation.said import Example
from trimtab_pipelines.prompts import IGNORED

PROBES = 6
# One token less than the shortest context that an engine can be given.
_LONGEST = 31
_SHORTEST = 8
# So much of the question stays before the answer, where versions differ most.
_LEAD = 8

_LOWEST_TOLERANCE = 0.005
# Kernels of other engines and other batches: thrice what we see ourselves.
_SAFETY = 3.0


def fingerprint_of(loaded: Loaded, examples: Sequence[Example]) -> Fingerprint:
    """Ends with the network in another number format: nothing else may be asked of it afterwards."""
    dtype = loaded.dtype
    probes = probes_of(examples, loaded)
    own = logprobs(loaded, probes)
    base: list[list[float]] | None = None
    if loaded.is_adapter:
        with loaded.as_base():
            base = logprobs(loaded, probes)
    batched = logprobs_batched(loaded, probes)
    _convert(loaded, torch.float16 if dtype == torch.bfloat16 else torch.bfloat16)
    other = logprobs(loaded, probes)
    noise = max(d for d in (distance(batched, own), distance(other, own)) if math.isfinite(d))
    return Fingerprint(
        dtype=str(dtype).removeprefix("torch."),
        tolerance=round(max(_LOWEST_TOLERANCE, _SAFETY * noise), 6),
        sequences=[
            FingerprintSequence(
                tokens=tokens,
                logprobs=[round(value, 6) for value in own[index]],
                base_logprobs=[round(value, 6) for value in base[index]] if base else None,
            )
            for index, tokens in enumerate(probes)
        ],
    )


def probes_of(examples: Sequence[Example], loaded: Loaded) -> list[list[int]]:
    """Stretches around the beginnings of answers; without data, tokens from all over the vocabulary."""
    longest = min(_LONGEST, loaded.context_length - 1)
    ranked = sorted(examples, key=lambda e: (-min(len(e.tokens), longest), _rank(e.tokens)))
    found = [_window(example, longest) for example in ranked]
    found = [probe for probe in found if len(probe) >= _SHORTEST][:PROBES]
    missing = range(PROBES - len(found))
    return found + [_synthetic(seed, longest, loaded.vocabulary) for seed in missing]


def _rank(tokens: Sequence[int]) -> bytes:
    return hashlib.sha256(repr(list(tokens)).encode()).digest()


def _window(example: Example, longest: int) -> list[int]:
    first = next(i for i, label in enumerate(example.labels) if label != IGNORED)
    start = max(0, min(first - _LEAD, len(example.tokens) - longest))
    return example.tokens[start : start + longest]


def _synthetic(seed: int, length: int, vocabulary: int) -> list[int]:
    """Tokens that depend on nothing but the vocabulary's size."""
    digests = (hashlib.sha256(f"probe {seed} {place}".encode()).digest() for place in range(length))
    return [int.from_bytes(digest[:8], "big") % vocabulary for digest in digests]


@torch.inference_mode()
def logprobs(loaded: Loaded, probes: Sequence[Sequence[int]]) -> list[list[float]]:
    """Each probe by itself: the log-probability of tokens 1..n-1 given those before."""
    found = []
    for probe in probes:
        tokens = torch.tensor([list(probe)], device=loaded.device)
        found.append(_gathered(loaded.network(input_ids=tokens).logits[0], tokens[0]))
    return found


@torch.inference_mode()
def logprobs_batched(loaded: Loaded, probes: Sequence[Sequence[int]]) -> list[list[float]]:
    """All probes at once, as a busy engine would compute them."""
    width = max(len(probe) for probe in probes)
    padded = [[*probe, *[0] * (width - len(probe))] for probe in probes]
    mask = [[1] * len(probe) + [0] * (width - len(probe)) for probe in probes]
    tokens = torch.tensor(padded, device=loaded.device)
    logits = loaded.network(
        input_ids=tokens, attention_mask=torch.tensor(mask, device=loaded.device)
    ).logits
    return [
        _gathered(logits[row, : len(probe)], tokens[row, : len(probe)])
        for row, probe in enumerate(probes)
    ]


def _convert(loaded: Loaded, dtype: torch.dtype) -> None:
    """Engines may serve in another number format than is evaluated in.

    Only parameters change: engines keep the buffers of rotary embeddings exact too.
    """
    for parameter in loaded.network.parameters():
        parameter.data = parameter.data.to(dtype)


def _gathered(logits: torch.Tensor, tokens: torch.Tensor) -> list[float]:
    table = torch.log_softmax(logits[:-1].float(), dim=-1)
    values: list[float] = table.gather(1, tokens[1:, None])[:, 0].tolist()
    return values
