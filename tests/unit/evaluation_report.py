"""The figures of a report: what each is a mean of, and what it is held against."""

import math
from pathlib import Path

import pytest
import sacrebleu
from tests.pods import pairs

from trimtab_api.v1alpha1.data import DatasetTask
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation.examples import chosen_records
from trimtab_pipelines.evaluation.report import metric_values, samples_of
from trimtab_pipelines.evaluation.said import Answer, Said
from trimtab_pipelines.prepared import write_split

REFERENCES = ["the name of the file", "a list of all the lines in the file", "it is"]


RECORDS = [{"prompt": "?", "completion": text} for text in REFERENCES]


def said(losses: list[tuple[float, int]], *answers: str) -> Said:
    return Said(losses, [Answer(text, len(text), is_finished=True) for text in answers])


OWN = said([(6.0, 1), (1.0, 9), (3.0, 10)], "the name of a file", "a list of lines", "it is")
BASE = said([(60.0, 20), (1.0, 10), (29.0, 10)], "none", "a list of all", "who knows what")


def values(own: Said = OWN, base: Said | None = BASE) -> dict[Metric, tuple[float, float | None]]:
    return {v.metric: (v.value, v.base) for v in metric_values(own, base, RECORDS)}


def test_the_loss_is_a_mean_over_tokens_and_perplexity_its_exponential() -> None:
    found = values()
    assert found[Metric.LOSS] == (0.5, 2.25)
    assert found[Metric.PERPLEXITY] == pytest.approx((math.exp(0.5), math.exp(2.25)))


def test_bleu_is_that_of_all_answers_together() -> None:
    value, base = values()[Metric.BLEU]
    texts = [answer.text for answer in OWN.answers]
    for answers, figure in ((texts, value), ([a.text for a in BASE.answers], base)):
        together = sacrebleu.corpus_bleu(answers, [REFERENCES]).score / 100
        assert figure == pytest.approx(together)
    alone = [sacrebleu.sentence_bleu(a, [r]).score for a, r in zip(texts, REFERENCES, strict=True)]
    assert value != pytest.approx(sum(alone) / 300)


def test_a_full_version_is_held_against_nothing() -> None:
    assert {base for _, base in values(base=None).values()} == {None}


@pytest.mark.parametrize(("count", "shown"), [(3, 3), (8, 8), (15, 8), (183, 8)])
def test_the_questions_that_a_report_shows_are_from_all_over_the_data(
    count: int, shown: int
) -> None:
    records = [{"prompt": str(number), "completion": "?"} for number in range(count)]
    samples = samples_of(records, said([], *(f"to {number}" for number in range(count))), None)
    places = [int(sample.prompt) for sample in samples]
    assert len(places) == shown
    assert [sample.answer for sample in samples] == [f"to {place}" for place in places]
    assert places[-1] >= count // 2


def a_split(folder: Path, count: int) -> Path:
    write_split(folder, "test", DatasetTask.INSTRUCTION, pairs(count))
    return folder


def test_examples_are_chosen_from_all_over_the_split_and_hardly_move(tmp_path: Path) -> None:
    before = [record["prompt"] for record in chosen_records(a_split(tmp_path, 200), 20)]
    numbers = [int(prompt[1:-1]) for prompt in before]
    assert numbers == sorted(numbers)
    assert numbers[0] < 50
    assert numbers[-1] > 150
    after = [record["prompt"] for record in chosen_records(a_split(tmp_path, 220), 20)]
    assert len(set(before) & set(after)) > 14


def test_a_split_that_is_smaller_is_taken_whole(tmp_path: Path) -> None:
    assert len(chosen_records(a_split(tmp_path, 5), 20)) == 5
    assert chosen_records(tmp_path / "nowhere", 20) == []
