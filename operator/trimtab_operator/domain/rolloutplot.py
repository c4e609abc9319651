"""Replays of rollouts as a picture: for each metric how far the evidence was, and what followed when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Final

from trimtab_api.v1alpha1.rollout import MetricEvidence
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.rolloutreplay import Look, Replay, ending

_WIDTH: Final = 900
_LEFT: Final = 60
_PLOT_WIDTH: Final = _WIDTH - _LEFT - 20
_HEADING: Final = 64
_PANEL: Final = 190
_PLOT_HEIGHT: Final = 130
# In parts of the evidence that is needed: below, nothing is decided, however far it is.
_LOW: Final = -0.5
_HIGH: Final = 1.5
_LETTERS: Final = 128
_WORSE: Final = "#c0392b"
_PROVEN: Final = "#1f7a4d"
_LEGEND: Final = (
    f'evidence that it is <tspan fill="{_WORSE}">worse</tspan>, and that it is '
    f'<tspan fill="{_PROVEN}">no worse</tspan>, as parts of what is needed: 1 rolls back, or is proof'
)


def picture(replays: Sequence[Replay]) -> str:
    """One SVG document, one replay below the other."""
    parts, height = list[str](), 0
    for each in replays:
        drawn, its_height = _replay(each)
        parts.append(f'<g transform="translate(0 {height})">{drawn}</g>')
        height += its_height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Span:
    """The time of a replay, from left to right."""

    first: datetime
    seconds: float

    def across(self, moment: datetime) -> float:
        return _LEFT + _PLOT_WIDTH * (moment - self.first).total_seconds() / self.seconds


def _replay(found: Replay) -> tuple[str, int]:
    title = f"{found.model}: {found.pair.candidate} beside {found.pair.stable}"
    parts = [
        f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(_short(title))}</text>',
        f'<text x="{_LEFT}" y="38">{escape(_short(ending(found)))}</text>',
        f'<text x="{_LEFT}" y="56">{_LEGEND}</text>',
    ]
    if not found.looks:
        return "".join(parts), _HEADING + 20
    first = found.pair.began
    span = _Span(first, max((found.looks[-1].time - first).total_seconds(), 1.0))
    metrics = [m.name for m in found.looks[-1].metrics if m.alarm_at is not None]
    for place, metric in enumerate(metrics):
        top = _HEADING + place * _PANEL
        parts.append(f'<g transform="translate(0 {top})">{_panel(found, metric, span)}</g>')
    return "".join(parts), _HEADING + max(len(metrics), 1) * _PANEL


def _panel(found: Replay, metric: str, span: _Span) -> str:
    bottom = 20 + _PLOT_HEIGHT
    right = _LEFT + _PLOT_WIDTH
    needed = _down(1.0)
    return "".join(
        (
            f'<text x="{_LEFT}" y="14">{escape(metric)}</text>',
            f'<line x1="{_LEFT}" x2="{right}" y1="{_down(0):.1f}" y2="{_down(0):.1f}" stroke="#cccccc"/>',
            f'<line x1="{_LEFT}" x2="{right}" y1="{needed:.1f}" y2="{needed:.1f}" stroke="#888888" stroke-dasharray="6 4"/>',
            f'<text x="{_LEFT - 6}" y="{needed + 4:.1f}" text-anchor="end">1</text>',
            f'<text x="{_LEFT - 6}" y="{_down(0) + 4:.1f}" text-anchor="end">0</text>',
            _curve(found, metric, span, _worse, _WORSE),
            _curve(found, metric, span, _no_worse, _PROVEN),
            *(_mark(look, found, span) for look in _moves(found)),
            f'<text x="{_LEFT}" y="{bottom + 16}">{timestamp(span.first)}</text>',
            f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{timestamp(found.looks[-1].time)}</text>',
        )
    )


def _curve(
    found: Replay,
    metric: str,
    span: _Span,
    part: Callable[[MetricEvidence], float | None],
    colour: str,
) -> str:
    points = []
    for look in found.looks:
        one = next((m for m in look.metrics if m.name == metric), None)
        value = part(one) if one is not None else None
        if value is not None:
            points.append(f"{span.across(look.time):.1f},{_down(value):.1f}")
    if not points:
        return ""
    return (
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    )


def _worse(one: MetricEvidence) -> float | None:
    return _part(one.log_evidence, one.alarm_at)


def _no_worse(one: MetricEvidence) -> float | None:
    return _part(one.log_no_worse, one.proven_at)


def _part(value: float | None, needed: float | None) -> float | None:
    return None if value is None or not needed else value / needed


def _moves(found: Replay) -> list[Look]:
    """Where a step was left, and the promotion or the rollback."""
    places = [(look.step, look.promoted) for look in found.looks]
    moved = [
        look
        for look, place, before in zip(found.looks, places, (None, *places), strict=False)
        if before is not None and place != before
    ]
    return [*moved, found.looks[-1]] if found.rollback is not None else moved


def _mark(look: Look, found: Replay, span: _Span) -> str:
    is_end = found.rollback is not None and look is found.looks[-1]
    kind, colour = ("rollback", _WORSE) if is_end else ("step", "#1f5fa8")
    if look.promoted and not is_end:
        kind, colour = "promotion", _PROVEN
    x = span.across(look.time)
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{20 + _PLOT_HEIGHT}" stroke="{colour}">'
        f"<title>{escape(f'{timestamp(look.time)} {look.message}')}</title></line>"
    )


def _down(value: float) -> float:
    within = min(max(value, _LOW), _HIGH)
    return 20 + _PLOT_HEIGHT * (_HIGH - within) / (_HIGH - _LOW)


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
