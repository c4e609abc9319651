"""Records become sequences: what counts, what is cut, what shares a row."""

import json
from typing import Any

import pytest
from tests.tinyruns import pairs, texts

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.finetunejob import Objective
from trimtab_pipelines.prompts import IGNORED
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.training.sequences import counted_tokens, encode, pack
from trimtab_pipelines.training.tokenizer import texts_of, train_tokenizer

RECORDS = [*texts(40), *pairs(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer((text for r in RECORDS for text in texts_of(r)), 400, 64)


def learnt(tokenizer: Any, record: dict[str, Any]) -> str:
    """The text that the loss is about, as the model would have to say it."""
    (row,) = encode([record], tokenizer, Objective.SUPERVISED, 64).sequences
    return str(tokenizer.decode([t for t in row.targets.tolist() if t != IGNORED]))


def test_only_the_answer_and_its_end_are_learnt(tokenizer: Any) -> None:
    assert learnt(tokenizer, {"prompt": "What is 1?", "completion": "A cat."}) == "A cat.<|end|>"


def test_every_answer_of_a_conversation_is_learnt_and_no_question(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is 1?"},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "What is 2?"},
        {"role": "assistant", "content": "A dog."},
    ]
    assert learnt(tokenizer, {"messages": messages}) == "A cat.<|end|>A dog.<|end|>"


def test_pretraining_learns_every_token_but_the_first(tokenizer: Any) -> None:
    (row,) = encode([{"text": "The red cat."}], tokenizer, Objective.PRETRAINING, 64).sequences
    assert row.targets.tolist() == [*row.tokens.tolist()[1:], IGNORED]
    assert tokenizer.decode(row.tokens.tolist()) == "<|begin|>The red cat.<|end|>"


def test_a_long_text_goes_on_in_further_sequences(tokenizer: Any) -> None:
    record = {"text": "The red cat has number 7. " * 30}
    encoded = encode([record], tokenizer, Objective.PRETRAINING, 32)
    whole = encode([record], tokenizer, Objective.PRETRAINING, 10_000).sequences[0]
    joined = [t for row in encoded.sequences for t in row.tokens.tolist()]
    assert joined == whole.tokens.tolist()
    assert max(map(len, encoded.sequences)) == 32
    assert encoded.cut == 1


def test_an_answer_beyond_the_context_is_dropped_and_told(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    long = {"prompt": "What is 1? " * 50, "completion": "A cat."}
    encoded = encode([long, *pairs(3)], tokenizer, Objective.SUPERVISED, 32)
    assert (len(encoded.sequences), encoded.cut, encoded.dropped) == (3, 1, 1)
    assert "1 records are longer than 32 tokens" in caplog.text


def test_an_answer_that_reaches_over_the_context_is_cut(tokenizer: Any) -> None:
    long = {"prompt": "What is 1?", "completion": "A cat. " * 50}
    encoded = encode([long], tokenizer, Objective.SUPERVISED, 32)
    assert [len(row) for row in encoded.sequences] == [32]
    assert encoded.cut == 1


REFUSED = [
    pytest.param(
        {"prompt": "What? " * 60, "completion": "A."},
        FailureReason.RECORD_TOO_LONG,
        "maxLength",
        id="no record fits with its answer",
    ),
    pytest.param(
        {"text": "The red cat."},
        FailureReason.DATA_MALFORMED,
        "Pretraining",
        id="plain text has no answer to supervise",
    ),
]


@pytest.mark.parametrize(("record", "reason", "remedy"), REFUSED)
def test_data_that_cannot_teach_is_refused(
    tokenizer: Any, record: dict[str, Any], reason: FailureReason, remedy: str
) -> None:
    with pytest.raises(RunError) as raised:
        encode([record], tokenizer, Objective.SUPERVISED, 32)
    assert raised.value.reason is reason
    assert remedy in raised.value.message


def test_packing_loses_nothing_and_fills_rows(tokenizer: Any) -> None:
    plain = encode(RECORDS, tokenizer, Objective.PRETRAINING, 64).sequences
    packed = pack(plain, 64)
    assert counted_tokens(packed) == counted_tokens(plain)
    assert sorted(t for row in packed for t in row.tokens.tolist()) == sorted(
        t for row in plain for t in row.tokens.tolist()
    )
    assert all(sum(row.lengths) == len(row) <= 64 for row in packed)
    assert len(packed) <= 1.15 * sum(map(len, plain)) / 64 + 1
    assert json.dumps([r.tokens.tolist() for r in packed]) == json.dumps(
        [r.tokens.tolist() for r in pack(plain, 64)]
    )


def test_the_tokenizer_gives_back_any_text(tokenizer: Any) -> None:
    for text in ("The red cat.", "  tabs\tand\n\nlines ", "Ünïcödé ✓ 漢字 \x00"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text


def test_the_same_texts_make_the_same_tokenizer(tokenizer: Any) -> None:
    again = train_tokenizer((text for r in RECORDS for text in texts_of(r)), 400, 64)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert len(again) <= 400


def test_special_tokens_in_data_are_one_token_each(tokenizer: Any) -> None:
    ids = tokenizer("<|user|>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
