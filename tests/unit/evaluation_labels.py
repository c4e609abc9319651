"""Answers as labels, and macro averages against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation.labels import (
    class_rows,
    label_of,
    macro_f1,
    macro_precision,
    macro_recall,
    said_label,
)
from trimtab_pipelines.evaluation.measures import measures_of
from trimtab_pipelines.evaluation.report import metric_values
from trimtab_pipelines.evaluation.said import Answer, Said

KNOWN = frozenset({"billing", "not spam", "spam", "3"})


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        pytest.param("billing", "billing", id="the label itself"),
        pytest.param(" **Billing**.\n", "billing", id="what surrounds it does not count"),
        pytest.param("not\n spam", "not spam", id="over two lines"),
        pytest.param("Spam\nBecause it sells something.", "spam", id="a reason on the next line"),
        pytest.param("It is spam", None, id="a sentence is no label"),
        pytest.param("spam, billing", None, id="two labels are none"),
        pytest.param("unknown", None, id="a label that does not exist"),
        pytest.param("", None, id="nothing"),
        pytest.param("\ufffd\x00\x00", None, id="garbage"),
    ],
)
def test_the_label_of_an_answer(answer: str, label: str | None) -> None:
    assert said_label(answer, KNOWN) == label


def test_labels_of_the_data_may_be_numbers_or_absent() -> None:
    assert [label_of({"label": x}) for x in (3, " Spam ", True, None)] == [
        "3",
        "spam",
        "true",
        None,
    ]
    assert label_of({"prompt": "a"}) is None


def by_definition(said: list[str | None], meant: list[str]) -> tuple[float, float, float]:
    """Each label as a question of its own, as in every textbook."""
    precisions, recalls, scores = [], [], []
    for label in set(meant):
        right = sum(s == m == label for s, m in zip(said, meant, strict=True))
        told, true = said.count(label), meant.count(label)
        precisions.append(right / told if told else 0.0)
        recalls.append(right / true)
        scores.append(2 * right / (told + true))
    count = len(precisions)
    return sum(precisions) / count, sum(recalls) / count, sum(scores) / count


PAIRS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from("abc")), min_size=1
)


@given(PAIRS)
def test_macro_averages_are_the_textbooks(pairs: list[tuple[str | None, str]]) -> None:
    meant = [m for _, m in pairs]
    said = [s if s in meant else None for s, _ in pairs]
    sums = np.array(class_rows(said, meant)).sum(axis=0)
    found = macro_precision(sums), macro_recall(sums), macro_f1(sums)
    assert found == pytest.approx(by_definition(said, meant))


def test_a_rare_label_counts_as_much_as_a_frequent_one() -> None:
    meant = ["a"] * 99 + ["b"]
    sums = np.array(class_rows(["a"] * 100, meant)).sum(axis=0)
    assert macro_recall(sums) == 0.5
    assert macro_precision(sums) == pytest.approx(0.495)


def test_a_label_that_a_resample_has_not_drawn_is_no_part_of_the_mean() -> None:
    """Three right ones of the first label, and two answers that said the second for nothing."""
    sums = np.array([3.0, 0.0, 2.0, 0.0, 2.0, 0.0])
    assert macro_recall(sums) == pytest.approx(0.6)
    assert macro_precision(sums) == 1.0
    assert macro_f1(sums) == pytest.approx(0.75)


def labelled(answers: list[str], labels: list[str | None]) -> tuple[Said, list[dict[str, str]]]:
    records = [
        {"prompt": "?", "completion": "x"} | ({} if label is None else {"label": label})
        for label in labels
    ]
    said = Said([(1.0, 1)] * len(answers), [Answer(text, 1, is_finished=True) for text in answers])
    return said, records


def test_the_report_has_the_figures_of_labels_with_their_intervals() -> None:
    said, records = labelled(["spam", "Ham", "?", "ham"] * 20, ["spam", "ham", "spam", "spam"] * 20)
    found = {v.metric: v for v in metric_values(said, None, records)}
    assert found[Metric.ACCURACY].value == 0.5
    assert found[Metric.RECALL].value == pytest.approx((1 / 3 + 1) / 2)
    assert found[Metric.PRECISION].value == pytest.approx((1 + 0.5) / 2)
    assert found[Metric.F1].value == pytest.approx((0.5 + 2 / 3) / 2)
    for metric in (Metric.ACCURACY, Metric.F1):
        low, high = found[metric].low, found[metric].high
        assert low is not None
        assert high is not None
        assert low < found[metric].value < high


def test_records_without_a_label_do_not_count() -> None:
    said, records = labelled(["a", "zzz"], ["a", None])
    assert measures_of(said, records)[Metric.ACCURACY].rows == [(1.0, 1.0)]
    said, records = labelled(["a"], [None])
    assert Metric.ACCURACY not in measures_of(said, records)


def test_labels_of_one_class_are_measured_like_any_others() -> None:
    said, records = labelled(["a", "b"], ["a", "a"])
    found = measures_of(said, records)
    assert found[Metric.ACCURACY].rows == [(1.0, 1.0), (0.0, 1.0)]
    sums = np.array(found[Metric.F1].rows).sum(axis=0)
    assert macro_f1(sums) == pytest.approx(2 / 3)


def test_a_label_that_differs_everywhere_has_no_table_of_classes() -> None:
    names = [f"label {n}" for n in range(257)]
    said, records = labelled(names, list(names))
    found = measures_of(said, records)
    assert Metric.ACCURACY in found
    assert Metric.F1 not in found
