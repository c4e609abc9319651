"""Figures and intervals against their definitions and against sacrebleu's own corpus score."""

import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from trimtab_pipelines.evaluation.figures import (
    bleu_counts,
    corpus_bleu,
    exact_match,
    longest_common_subsequence,
    rouge_l,
    token_f1,
)
from trimtab_pipelines.evaluation.intervals import estimate, ratio


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        pytest.param("the cat sat", "the cat sat", (1.0, 1.0, 1.0), id="equal"),
        pytest.param(" the cat\n", "the cat", (1.0, 1.0, 1.0), id="equal but for blanks"),
        pytest.param("The cat.", "the cat", (0.0, 1.0, 1.0), id="equal in words"),
        pytest.param("sat cat the", "the cat sat", (0.0, 1 / 3, 1.0), id="the same words in another order"),
        pytest.param("the cat", "the cat sat down", (0.0, 2 / 3, 2 / 3), id="half of it"),
        pytest.param("", "the cat", (0.0, 0.0, 0.0), id="nothing said"),
        pytest.param("", "", (1.0, 1.0, 1.0), id="nothing to say"),
        pytest.param("猫 は", "猫 は", (1.0, 1.0, 1.0), id="another script"),
        pytest.param("the the the", "the cat", (0.0, 0.4, 0.4), id="a word said too often"),
    ],
)  # fmt: skip
def test_figures_of_one_answer(
    answer: str, reference: str, expected: tuple[float, float, float]
) -> None:
    found = exact_match(answer, reference), rouge_l(answer, reference), token_f1(answer, reference)
    assert found == pytest.approx(expected)


def slow_length(left: list[str], right: list[str]) -> int:
    """The table of every textbook."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for place, other in enumerate(right, 1):
            kept = row[place]
            row[place] = before + 1 if word == other else max(row[place], row[place - 1])
            before = kept
    return row[-1]


WORDS = st.lists(st.sampled_from("abcd"), max_size=80)


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_the_textbooks(left: list[str], right: list[str]) -> None:
    assert longest_common_subsequence(left, right) == slow_length(left, right)


def test_bleu_of_summed_counts_is_sacrebleus_corpus_score() -> None:
    source = random.Random(3)  # noqa: S311 - a table of texts, no secret
    words = [
        "the",
        "a",
        "file",
        "of",
        "name",
        "is",
        "return",
        "size",
        "list",
        "(str)",
        "don't",
        "3.5",
        ",",
    ]
    references = [" ".join(source.choices(words, k=source.randint(1, 25))) for _ in range(60)]
    answers = [
        " ".join(source.choices(words, k=source.randint(0, 25))) if n % 3 else text + " x"
        for n, text in enumerate(references)
    ]
    rows = np.array([counts.as_row() for counts in bleu_counts(answers, references)])
    expected = sacrebleu.corpus_bleu(answers, [references]).score
    assert corpus_bleu(rows.sum(axis=0)) * 100 == pytest.approx(expected)
    assert 1 < expected < 99


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    source = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        found = estimate([(value, 1.0) for value in source.normal(2.0, 1.0, 60)], ratio)
        hits += found.low <= 2.0 <= found.high
    assert 180 <= hits <= 199


def test_an_interval_is_the_same_every_time_and_narrows_with_more_examples() -> None:
    rows = [(float(n % 2), 1.0) for n in range(40)]
    first, second, more = estimate(rows, ratio), estimate(rows, ratio), estimate(rows * 25, ratio)
    assert first == second
    assert (first.value, more.value) == (0.5, 0.5)
    assert (first.high - first.low) / (more.high - more.low) == pytest.approx(5, rel=0.15)


def test_a_mean_is_weighted_by_its_tokens() -> None:
    assert estimate([(10.0, 1.0), (0.0, 9.0)], ratio).value == 1.0
