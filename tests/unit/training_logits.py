"""The logits of what counts: the same as those of a whole batch, and no others are made."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab_api.v1alpha1.finetunejob import LoraMethod, TrainingMethod
from trimtab_pipelines.training.models import logits_at, with_adapter

PLACES = torch.tensor([1, 4, 5, 11])
TOKENS = torch.tensor([[1, 5, 9, 2, 7, 3], [4, 8, 6, 0, 0, 2]])


def network() -> Any:
    torch.manual_seed(3)
    shape = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(shape)


def tuned() -> Any:
    return with_adapter(network(), TrainingMethod(lora=LoraMethod(rank=2, alpha=4, dropout=0.0)))


class Headless(torch.nn.Module):
    """A model that tells of no output embeddings."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


MODELS = {"a whole model": network, "an adapter": tuned, "no head": lambda: Headless(network())}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_they_and_their_gradients_are_those_of_the_whole_batch(make: Any) -> None:
    one, other = make(), make()
    whole = one(input_ids=TOKENS, use_cache=False).logits.flatten(0, 1)[PLACES]
    chosen = logits_at(other, PLACES, input_ids=TOKENS)
    assert torch.allclose(whole, chosen, atol=1e-6)
    for logits in (whole, chosen):
        logits.square().sum().backward()
    for expected, found in zip(one.parameters(), other.parameters(), strict=True):
        assert (expected.grad is None) == (found.grad is None)
        if expected.grad is not None:
            assert torch.allclose(expected.grad, found.grad, atol=1e-5)


@pytest.mark.parametrize("make", [network, tuned], ids=["a whole model", "an adapter"])
def test_the_head_reads_nothing_else_and_is_left_as_it_was(make: Any) -> None:
    model = make()
    read: list[int] = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _, given, __: read.append(given[0].flatten(0, -2).shape[0]))
    logits_at(model, PLACES, input_ids=TOKENS)
    assert model(input_ids=TOKENS).logits.shape == (2, 6, 11)
    assert read == [4, 12]


def test_nothing_that_counts_is_no_logits() -> None:
    assert logits_at(network(), PLACES[:0], input_ids=TOKENS).shape == (0, 11)
