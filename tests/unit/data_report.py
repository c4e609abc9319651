"""The report about prepared data: the figures, and the page that shows them."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.pods import Pod, jsonl, pairs
from tests.preparedfiles import report_of

from trimtab_api.pages import bars, number, percent
from trimtab_pipelines.report import figures
from trimtab_pipelines.report.charts import histogram, shares
from trimtab_pipelines.report.topics import topics_of

VOID = {"meta", "rect", "line", "br"}
ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}


class Balance(HTMLParser):
    """Every element is closed, and nothing is fetched from anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload", "srcset"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def prepared(pod: Pod, records: list[dict[str, Any]], **dataset: Any) -> tuple[str, dict[str, Any]]:
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    return report_of(pod, pod.prepare("pvc://claim/in.jsonl", **dataset))


def test_the_page_stands_alone_and_is_sound(pod: Pod) -> None:
    records = [
        {"prompt": f"<script>alert({n})</script> & what?", "completion": f"A{n}.", "kind": "<b>"}
        for n in range(60)
    ]
    page, _ = prepared(
        pod,
        [*records, *records[:9]],
        columns={"label": "kind"},
        clean={"characters": {"max": 100}},
    )
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert not balance.seen & {"script", "img", "link", "iframe"}
    assert "url(" not in page
    assert "@import" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_report_is_attached_to_the_data(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(40)))
    result = pod.prepare("pvc://claim/in.jsonl")
    assert result.data is not None
    assert result.report is not None
    manifest = pod.manifest(result.report)
    assert manifest.artifact_type == "application/vnd.trimtab.dataset-report.v1"
    assert manifest.subject is not None
    assert manifest.subject.digest == result.data.digest
    assert sorted(pod.pulled(result.report, "report")) == ["report.html", "report.json"]


def test_the_same_data_has_the_same_report(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(80)))
    first, second = (pod.prepare("pvc://claim/in.jsonl") for _ in range(2))
    assert first.report == second.report


def test_figures_are_those_of_the_records(pod: Pod) -> None:
    records = [
        {"prompt": "How do I reset it?", "completion": f"Press the red button number {n} twice."}
        for n in range(50)
    ]
    page, document = prepared(pod, [*records, *records[:10]], split=ALL_TRAIN)
    assert document["records"]["read"] == 60
    assert document["duplicates"]["clusters"] == 10
    assert document["duplicates"]["records"] == 20
    assert document["duplicates"]["sizes"][0] == {"from": 2, "to": 2, "clusters": 10}
    assert document["languages"][0]["language"] == "en"
    assert document["lengths"]["median"] == 14
    assert sum(document["lengths"]["counts"]["train"]) == 50
    assert document["sample"] == 50
    steps = {step["step"]: step for step in document["steps"]}
    assert len(steps["ExactDuplicates"]["examples"]) == 10
    assert "Exact duplicates: 10 dropped" in page


def test_large_data_is_looked_at_by_a_sample_of_its_own_choice(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SAMPLE", 20)
    page, document = prepared(pod, pairs(300), split=ALL_TRAIN)
    assert document["sample"] == 20
    assert "Seen on 20 of 300 records." in page
    assert document["outliers"]["longest"][0]["value"] == len("Q299?\nA299.")


def test_outliers_are_found(pod: Pod) -> None:
    odd = [
        {"prompt": "again", "completion": "the same words " * 100},
        {"prompt": "-", "completion": "/*--==--*/ " * 3 + "x"},
    ]
    document = prepared(pod, [*pairs(40), *odd], split=ALL_TRAIN)[1]
    found = document["outliers"]
    assert found["repetitive"][0]["text"].startswith("again")
    assert found["unusual"][0]["text"].startswith("-")
    assert found["longest"][0]["text"].startswith("again")


def test_texts_about_the_same_thing_are_one_topic() -> None:
    kinds = (
        "The kettle boils water for tea, cup",
        "An engine burns petrol inside cylinders",
        "Our gardener plants roses near fences",
        "This judge reads laws before verdicts",
    )
    texts = [f"{kinds[n % 4]} {n}" for n in range(120)]
    topics = topics_of(texts)
    for topic in topics:
        assert len({n % 4 for n in topic.members}) == 1
    assert "engine" in {word for topic in topics for word in topic.words}
    assert topics_of(texts) == topics
    assert topics_of(["a", "b"]) == []


def test_plots_are_drawn_to_scale() -> None:
    drawn = histogram([1, 2, 4], {"train": [1, 3], "test": [1, 0]})
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"/>', drawn)]
    assert heights[1] == heights[0]
    assert heights[2] == pytest.approx(3 * heights[0], abs=0.2)
    assert 'width="50.00"' in bars([("a", 2, ""), ("b", 1, "")])
    assert 'width="25.00"' in shares([("a", 3), ("b", 1)])
    assert histogram([], {}) == ""


def test_numbers_are_written_for_people() -> None:
    assert (number(1234567), number(0.5)) == ("1\u202f234\u202f567", "0.50")
    assert (percent(0.0001), percent(0.5)) == ("<\u202f0.1\u202f%", "50.0\u202f%")


def test_the_digest_follows_from_sources_and_specification_alone(pod: Pod) -> None:
    records = [
        {"prompt": f"Question {n}?", "completion": f"Answer {n % 70} is long enough for this."}
        for n in range(200)
    ]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    clean = {"deduplicate": {"method": "MinHash"}, "pii": {}, "languages": {"allow": ["en"]}}
    results = [pod.prepare("pvc://claim/in.jsonl", clean=clean) for _ in range(2)]
    digests = {result.data.digest for result in results if result.data}
    assert len(digests) == 1
