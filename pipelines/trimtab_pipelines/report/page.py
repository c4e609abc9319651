"""The report as one page that needs nothing else: no script, no font, no picture from elsewhere. Pure."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from trimtab_api import pages
from trimtab_api.pages import bars, number, percent, section, tiles
from trimtab_pipelines.report.charts import SPLIT_CLASSES, histogram, shares

Document = Mapping[str, Any]

_STEPS = {
    "Discarded": "Thrown away by people",
    "Characters": "Too short or too long",
    "Languages": "Other languages",
    "WordLists": "Words of a list",
    "Secrets": "Keys and passwords",
    "Pii": "Personal data",
    "OffFormat": "Nothing to read from the teacher",
    "Ungrounded": "Answers without ground in the text",
    "RepeatedQuestions": "Repeated questions",
    "ExactDuplicates": "Exact duplicates",
    "NearDuplicates": "Near duplicates",
    "HeldOutNeighbours": "Alike held-out records",
    "Leakage": "Held out of other data",
}
_LABELS = 12
_OUTLIERS = {
    "longest": ("Longest", "characters"),
    "shortest": ("Shortest", "characters"),
    "repetitive": ("Repeating themselves", "of the size when packed"),
    "unusual": ("Many marks, few letters", "of the characters are marks"),
}


def page(document: Document) -> str:
    """HTML from what stands in report.json."""
    sections = "".join(part(document) for part in _SECTIONS)
    title = f"Prepared data: {number(document['records']['kept'])} records"
    shown = f'{_heading(document)}{pages.remarks(document["warnings"])}<div class="cards">{sections}</div>'
    return pages.document(title, shown)


def _heading(document: Document) -> str:
    records = document["records"]
    shown = [
        ("read", records["read"]),
        ("kept", records["kept"]),
        ("train", records["train"]),
        ("validation", records["validation"]),
        ("test", records["test"]),
        *([("synthetic", records["synthetic"])] if records.get("synthetic") else []),
    ]
    digest = document.get("data")
    named = f'<p class="digest">{escape(str(digest))}</p>' if digest else ""
    return (
        f"<header><h1>Prepared data</h1><p>Task {escape(document['task'])}, "
        f"{number(document['meanCharacters'])} characters per record on average.</p>{named}</header>"
        f"{tiles([(name, number(value)) for name, value in shown])}"
    )


def _splits(document: Document) -> str:
    records = document["records"]
    parts = [(name, records[name]) for name in SPLIT_CLASSES]
    return section("Splits", f"By hash of the {document['splitBy'].lower()}.", shares(parts))


def _steps(document: Document) -> str:
    steps = document["steps"]
    rows = [
        (_STEPS.get(step["step"], step["step"]), step["dropped"], number(step["dropped"]))
        for step in steps
    ]
    details = "".join(_step_details(step) for step in steps)
    return section("Dropped", "By step, in the order of the steps.", bars(rows) + details)


def _step_details(step: Document) -> str:
    if not (step["dropped"] or step["changed"] or step["reported"]):
        return ""
    told = [
        f"{number(step[key])} {word}"
        for key, word in (
            ("dropped", "dropped"),
            ("changed", "masked"),
            ("reported", "kept and counted"),
        )
        if step[key]
    ]
    kinds = "".join(
        f"<li>{escape(str(kind))} <b>{number(count)}</b></li>"
        for kind, count in step["found"].items()
    )
    listed = f'<ul class="kinds">{kinds}</ul>' if kinds else ""
    examples = "".join(map(_example, step["examples"]))
    name = str(_STEPS.get(step["step"], step["step"]))
    return (
        f"<details><summary>{escape(name)}: {', '.join(told)}</summary>{listed}{examples}</details>"
    )


def _example(example: Document) -> str:
    like = example.get("like")
    other = f"<p class='like'>{escape(like)}</p>" if like else ""
    return (
        f"<blockquote><small>{escape(example['why'])}</small><p>{escape(example['text'])}</p>{other}"
        "</blockquote>"
    )


def _lengths(document: Document) -> str:
    lengths = document["lengths"]
    if not lengths["edges"]:
        return ""
    legend = "".join(
        f'<li><i class="{SPLIT_CLASSES[name]}"></i>{name}</li>' for name in lengths["counts"]
    )
    told = (
        f"Half of the records have at most {number(lengths['median'])} tokens, 95 of 100 at most "
        f"{number(lengths['p95'])}, the longest {number(lengths['longest'])}. A token is a word or a mark; "
        "a model's own tokens are about a third more. " + _of_sample(document)
    )
    plot = histogram(lengths["edges"], lengths["counts"])
    return section("Lengths in tokens", told, f'{plot}<ul class="legend">{legend}</ul>')


def _languages(document: Document) -> str:
    rows = [
        (item["language"], item["count"], percent(item["share"])) for item in document["languages"]
    ]
    return section("Languages", _of_sample(document), bars(rows)) if rows else ""


def _duplicates(document: Document) -> str:
    found = document["duplicates"]
    if not found["clusters"]:
        return section("Duplicates", "No record repeats another.", "")
    rows = [(_span(size), size["clusters"], number(size["clusters"])) for size in found["sizes"]]
    largest = "".join(
        f"<blockquote><small>{number(item['size'])} records</small><p>{escape(item['text'])}</p></blockquote>"
        for item in found["largest"]
    )
    told = (
        f"{number(found['records'])} records stand in {number(found['clusters'])} groups of equal or "
        "nearly equal ones. Groups by their size:"
    )
    body = f"{bars(rows)}<details><summary>The largest groups</summary>{largest}</details>"
    return section("Duplicates", told, body)


def _span(size: Document) -> str:
    least, most = size["from"], size["to"]
    if most is None:
        return f"{least} and more"
    return str(least) if least == most else f"{least} to {most}"


def _topics(document: Document) -> str:
    topics = document["topics"]
    if not topics:
        return ""
    rows = [(" · ".join(item["words"]), item["count"], percent(item["share"])) for item in topics]
    told = "Groups of records that share telling words. " + _of_sample(document)
    return section("Topics", told, f'<div class="long">{bars(rows)}</div>')


def _labels(document: Document) -> str:
    parts = [
        f"<h3>{escape(name)}</h3>{_label_bars(items, SPLIT_CLASSES[name])}"
        for name, items in document["labels"].items()
    ]
    return section("Labels", "", "".join(parts)) if parts else ""


def _label_bars(items: Sequence[Document], kind: str) -> str:
    rows = [(item["label"], item["count"], percent(item["share"])) for item in items[:_LABELS]]
    more = len(items) - _LABELS
    return bars(rows, kind) + (f"<p>and {more} more</p>" if more > 0 else "")


def _outliers(document: Document) -> str:
    parts = []
    for name, (title, unit) in _OUTLIERS.items():
        items = document["outliers"][name]
        if not items:
            continue
        shown = "".join(
            f"<blockquote><small>{_measure(item['value'])} {unit}</small><p>{escape(item['text'])}</p></blockquote>"
            for item in items
        )
        parts.append(f"<details><summary>{title}</summary>{shown}</details>")
    return section("Outliers", "Worth a look before training on them.", "".join(parts))


def _measure(value: float) -> str:
    return number(value) if isinstance(value, int) else percent(value)


def _of_sample(document: Document) -> str:
    kept, sample = document["records"]["kept"], document["sample"]
    return f"Seen on {number(sample)} of {number(kept)} records." if sample < kept else ""


_SECTIONS: Sequence[Callable[[Document], str]] = (
    _splits,
    _steps,
    _lengths,
    _languages,
    _duplicates,
    _topics,
    _labels,
    _outliers,
)
