"""The tolerance of a fingerprint covers engines that compute in another number format."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab_api.fingerprint import distance
from trimtab_pipelines.evaluation.fingerprints import fingerprint_of, logprobs
from trimtab_pipelines.evaluation.models import Loaded

VOCABULARY = 64


class Network(torch.nn.Module):
    """The next token from the last one alone; the larger its numbers, the coarser in half the bits."""

    def __init__(self, size: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table = torch.nn.Parameter(torch.randn(VOCABULARY, VOCABULARY) * size)

    def forward(self, input_ids: torch.Tensor, attention_mask: object = None) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])

    def get_output_embeddings(self) -> Any:
        return SimpleNamespace(weight=self.table)


def loaded(size: float) -> Loaded:
    tokenizer: Any = None
    return Loaded(Network(size), tokenizer, False, 128, torch.device("cpu"))


def test_a_model_that_suffers_from_another_number_format_gets_more_room() -> None:
    made = loaded(size=10.0)
    found = fingerprint_of(made, [])
    assert (found.dtype, made.dtype) == ("float32", torch.bfloat16)
    other = logprobs(made, [sequence.tokens for sequence in found.sequences])
    apart = distance(other, [sequence.logprobs for sequence in found.sequences])
    assert apart > 0.005
    assert found.tolerance == pytest.approx(3 * apart, rel=0.01)


def test_a_model_that_does_not_suffer_gets_the_least_room() -> None:
    assert fingerprint_of(loaded(size=0.01), []).tolerance == 0.005
