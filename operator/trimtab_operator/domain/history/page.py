"""The history of a service as one page that needs nothing else. Pure: from what was gathered to HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Final

from trimtab_api import pages
from trimtab_api.pages import bars, percent, section, tiles
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.drift import DriftStatus
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_api.v1alpha1.rollout import MetricEvidence
from trimtab_operator.domain.conditions import is_true
from trimtab_operator.domain.history import plots
from trimtab_operator.domain.history.courses import Course, Courses, Curve
from trimtab_operator.domain.history.entries import Entry, What, origin

MOST_ENTRIES: Final = 300
_TOLD: Final[Mapping[What, str]] = {What.ROLLBACK: "bad", What.PROMOTION: "good"}
_STATES: Final = ("Ready", "InUse", "Approved", "Signed", "Quarantined", "Retired")


@dataclass(frozen=True)
class History:
    """Everything that the page shows."""

    service: InferenceService
    made: datetime
    entries: tuple[Entry, ...]
    versions: tuple[ModelVersion, ...] = ()
    courses: Courses = field(default_factory=dict)
    # How far the operator has looked, by model, where a rollout is under way.
    looks: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def page(history: History) -> str:
    """HTML, with the latest first."""
    meta = history.service.metadata
    title = f"Decisions about {meta.name}"
    models = [m for m in history.service.status.models if _has_story(history, m)]
    cards = "".join(_model(history, model) for model in models)
    head = (
        f"<header><h1>{escape(title)}</h1><p>InferenceService {escape(meta.name)} in namespace "
        f"{escape(meta.namespace)}, as it was at {_moment(history.made)}.</p></header>"
    )
    body = (
        f"{head}{_figures(history)}{pages.remarks(history.remarks)}{_overview(history)}"
        f'<div class="cards{"" if len(models) > 1 else " one"}">{cards}</div>{_story(history)}{_versions(history)}'
    )
    return pages.document(title, body, plots.STYLE)


def _figures(history: History) -> str:
    def count(what: What) -> int:
        return sum(e.what is what for e in history.entries)

    drifts = [m.drift for m in history.service.status.models if m.drift]
    people = {e.by for e in history.entries if e.what is What.DECISION}
    return tiles(
        [
            ("models", str(len(history.service.spec.models))),
            ("versions", str(len(history.versions))),
            ("promotions", str(count(What.PROMOTION))),
            ("rollbacks", str(count(What.ROLLBACK))),
            ("decisions", str(count(What.DECISION))),
            ("people who decided", str(len(people))),
            ("retrainings", str(sum(len(d.retrainings) for d in drifts))),
        ]
    )


def _has_story(history: History, model: ServedModelStatus) -> bool:
    """The base answers from the first day on, and nobody decides about it."""
    is_base = model.name == history.service.spec.base_model.name
    return not is_base or any(e.model == model.name for e in history.entries)


def _overview(history: History) -> str:
    if not history.entries:
        return section("What happened when", "Nothing has been decided about it yet.", "")
    span = plots.span_of(history.entries, history.made)
    return section("What happened when", "", plots.strips(history.entries, span))


# --- one model ------------------------------------------------------------------------------------


def _model(history: History, model: ServedModelStatus) -> str:
    mine = [e for e in history.entries if e.model == model.name]
    colours = _versions_in_order(history, model.name)
    body = "".join(
        (
            _now(model, history.looks.get(model.name)),
            _plot(history, model.name, Course.SHARE, "Share of requests", mine, colours),
            _plot(history, model.name, Course.ERRORS, "Server errors", mine, colours),
            _plot(history, model.name, Course.DRIFT, "Traffic has moved", mine, colours),
            _evidence_now(model),
            _last_rollback(model),
            _drift(model.drift) if model.drift else "",
        )
    )
    return section(model.name, "", body)


def _now(model: ServedModelStatus, look: str | None) -> str:
    rows = [("Answers", model.active_version or "no version yet")]
    if model.candidate_version:
        share = "" if model.weight is None else f", {model.weight} % of the requests"
        rows.append(("Candidate", model.candidate_version + share))
    if model.rollout is not None:
        told = model.rollout.message or model.rollout.reason
        rows.append((f"Rollout: {model.rollout.verdict}", told))
    if look is not None:
        rows.append(("Last look", look))
    if model.message:
        rows.append((model.reason or "Note", model.message))
    if model.drift is not None:
        rows.append((f"Drift: {model.drift.reason}", model.drift.message or "nothing to say yet"))
        if model.drift.plan:
            rows.append(("What follows", model.drift.plan))
    return _list(rows)


def _plot(
    history: History,
    model: str,
    course: Course,
    title: str,
    entries: Sequence[Entry],
    colours: Sequence[str],
) -> str:
    curves = history.courses.get(course, {}).get(model, ())
    if not curves:
        return ""
    span = plots.span_of_curves(_curves_of(history, model))
    top = plots.highest(curves) if course is Course.ERRORS else 1.0
    upper = f" <small>up to {percent(top)}</small>" if course is Course.ERRORS else ""
    return f"<h3>{title}{upper}</h3>{plots.lines(curves, colours, span, entries, top)}"


def _versions_in_order(history: History, model: str) -> list[str]:
    """The versions of all its plots, so that each has one colour in all of them."""
    every = _curves_of(history, model)
    first = {c.name: c.points[0][0] for c in sorted(every, key=_begin, reverse=True)}
    return sorted(first, key=lambda name: (first[name], name))


def _begin(curve: Curve) -> float:
    return curve.points[0][0]


def _evidence_now(model: ServedModelStatus) -> str:
    if model.rollout is None or not model.rollout.metrics:
        return ""
    rows = []
    for one in model.rollout.metrics:
        rows += _progress(one.name, "worse", one.log_evidence, one.alarm_at)
        rows += _progress(one.name, "no worse", one.log_no_worse, one.proven_at)
    shown = bars(rows) if rows else ""
    return (
        f"<h3>{escape(model.rollout.candidate)} so far</h3><p>Evidence, as a part of what is needed to decide.</p>"
        f"{shown}{_evidence(model.rollout.metrics)}"
    )


def _progress(
    name: str, word: str, value: float | None, needed: float | None
) -> list[tuple[str, float, str]]:
    if value is None or not needed:
        return []
    part = min(max(value / needed, 0.0), 1.0)
    return [(f"{name}: {word}", part, percent(part))]


def _last_rollback(model: ServedModelStatus) -> str:
    last = model.last_rollback
    if last is None:
        return ""
    told = f"{last.from_version} to {last.to_version}, {escape(last.time)}: {last.reason}"
    return (
        f"<h3>Last rollback</h3><p>{escape(told)}</p><p>{escape(last.message)}</p>"
        f"{_evidence(last.evidence)}{_query(last.query or '')}"
    )


def _drift(drift: DriftStatus) -> str:
    if not drift.moved:
        return ""
    rows = [(m.category, percent(m.before), percent(m.now)) for m in drift.moved]
    psi = "" if drift.psi is None else f" (PSI {drift.psi:.2f})"
    head = f"<h3>What has moved: {escape(drift.signal or '')}{psi}</h3>"
    return head + _table(("Category", "Before", "Now"), rows)


# --- the story and the versions -------------------------------------------------------------------


def _story(history: History) -> str:
    if not history.entries:
        return ""
    shown = "".join(_entry(entry) for entry in history.entries[:MOST_ENTRIES])
    more = len(history.entries) - MOST_ENTRIES
    rest = f"<p>and {more} earlier ones</p>" if more > 0 else ""
    told = "The latest first; times are UTC."
    body = f'<ol class="story">{shown}</ol>{rest}'
    return section("Who decided what, and why", told, body)


def _entry(entry: Entry) -> str:
    kind = _TOLD.get(entry.what, "")
    why = f"<p>{escape(entry.why)}</p>" if entry.why else ""
    of = f"{entry.model}, " if entry.model else ""
    by = f", by {entry.by}" if entry.by else ""
    figures = ""
    if entry.evidence:
        inner = _evidence(entry.evidence) + _query(entry.query)
        figures = f"<details><summary>The figures</summary>{inner}</details>"
    return (
        f'<li><span class="tag {kind}">{entry.what}</span> <b>{escape(entry.title)}</b>'
        f"<small>{escape(of)}{_moment(entry.time)}{escape(by)}</small>{why}{figures}</li>"
    )


def _versions(history: History) -> str:
    if not history.versions:
        return ""
    rows = [_version(v) for v in reversed(history.versions)]
    head = ("Version", "Came", "From", "Gates", "Is")
    return section("Versions", "", _table(head, rows))


def _version(version: ModelVersion) -> tuple[str, ...]:
    gates = version.status.evaluation.gates if version.status.evaluation else []
    failed = [g.message for g in gates if not g.passed]
    passed = f"{len(gates) - len(failed)} of {len(gates)} passed" if gates else "none"
    states = [c for c in _STATES if is_true(version.status.conditions, c)]
    return (
        f"{version.metadata.name} ({version.spec.artifact.digest[:19]}…)",
        version.metadata.creation_timestamp or "",
        origin(version),
        "; ".join([passed, *failed]),
        ", ".join(states) or "nothing yet",
    )


# --- pieces ---------------------------------------------------------------------------------------


def _evidence(metrics: Sequence[MetricEvidence]) -> str:
    if not metrics:
        return ""
    rows = [
        (
            one.name,
            _counts(one.candidate_events, one.candidate_requests),
            _counts(one.stable_events, one.stable_requests),
            _of(one.log_evidence, one.alarm_at),
            _of(one.log_no_worse, one.proven_at),
            one.message or ("" if one.value is None else f"{one.value:g}"),
        )
        for one in metrics
    ]
    head = ("Metric", "Candidate", "Stable", "Worse", "No worse", "Note")
    return _table(head, rows)


def _counts(events: int, requests: int) -> str:
    return f"{events} of {requests}" if requests else "none"


def _of(value: float | None, needed: float | None) -> str:
    return "" if value is None or needed is None else f"{value:.2f} of {needed:.2f}"


def _query(query: str) -> str:
    return f"<p>Asked of Prometheus: <code>{escape(query)}</code></p>" if query else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Where there is no room for columns, each cell says what it is."""
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-name="{escape(name)}">{escape(text)}</td>'
            for name, text in zip(head, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _list(rows: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f"<dl>{shown}</dl>"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _curves_of(history: History, model: str) -> list[Curve]:
    return [c for by_model in history.courses.values() for c in by_model.get(model, ())]
