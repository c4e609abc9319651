"""The plots of a history as inline SVG; their text is HTML beside them, so that it stays readable on a phone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Final

from trimtab_api.pages import percent
from trimtab_operator.domain.history.courses import Curve, Point
from trimtab_operator.domain.history.entries import Entry, What

_WIDTH: Final = 360
_HEIGHT: Final = 120
_TOP: Final = 6
_FLOOR: Final = _HEIGHT - 6
# What is called off in a plot over time.
_CALLED: Final = {What.PROMOTION: "good", What.ROLLBACK: "bad", What.DRIFT: "moved"}
COLOURS: Final = 5

STYLE: Final = """
:root{--c4:#8457a6;--c5:#b0553f;--bad:#b3261e;--good:#1f7a4d}
@media (prefers-color-scheme:dark){:root{--c4:#b890d6;--c5:#d98a75;--bad:#ff8a80;--good:#74c295}}
@media print{:root{--c4:#8457a6;--c5:#b0553f;--bad:#b3261e;--good:#1f7a4d}}
.l1{stroke:var(--c1)}.l2{stroke:var(--c2)}.l3{stroke:var(--c3)}.l4{stroke:var(--c4)}.l5{stroke:var(--c5)}
i.c4{background:var(--c4)}i.c5{background:var(--c5)}
polyline{fill:none;stroke-width:1.5;vector-effect:non-scaling-stroke}
.grid{stroke:var(--line)}.mark{stroke-width:1.2;vector-effect:non-scaling-stroke}
.mark.bad{stroke:var(--bad)}.mark.good{stroke:var(--good)}.mark.moved{stroke:var(--c2);stroke-dasharray:4 3}
rect.bad{fill:var(--bad)}rect.good{fill:var(--good)}
.over{width:100%;max-width:none;height:120px}.ends{display:flex;justify-content:space-between;gap:1rem;font-size:.82rem;color:var(--soft)}
.cards.one{columns:1}.strips .row{grid-template-columns:6.5rem 1fr auto}
.strip{width:100%;height:14px;background:var(--line);border-radius:4px}
ol.story{list-style:none;margin:0;padding:0}ol.story>li{border-top:1px solid var(--line);padding:.55rem 0;break-inside:avoid;overflow-wrap:anywhere}
ol.story p{margin:.1rem 0;font-size:.92rem}ol.story small{display:block}
.tag{display:inline-block;border:1px solid var(--line);border-radius:999px;padding:0 .55em;font-size:.8rem;color:var(--soft)}
.tag.bad{border-color:var(--bad);color:var(--bad)}.tag.good{border-color:var(--good);color:var(--good)}
table{border-collapse:collapse;width:100%;font-size:.88rem;margin:.4rem 0}
td,th{text-align:left;padding:.25rem .6rem .25rem 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:500}
.cards table,.cards tbody,.cards tr,.cards td,li table,li tbody,li tr,li td{display:block}.cards thead,li thead{display:none}
.cards tr,li tr{border-top:1px solid var(--line);padding:.25rem 0}.cards td,li td{border:0;padding:0}
.cards td:not(:first-child)::before,li td:not(:first-child)::before{content:attr(data-name) ": ";color:var(--soft)}
.cards td:first-child,li td:first-child{font-weight:500}td:empty{display:none!important}
@media (max-width:700px){table,tbody,tr,td{display:block}thead{display:none}tr{border-top:1px solid var(--line);padding:.25rem 0}
td{border:0;padding:0}td:not(:first-child)::before{content:attr(data-name) ": ";color:var(--soft)}td:first-child{font-weight:500}}
code{font:.8rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere}dl{margin:.2rem 0;font-size:.92rem}dt{color:var(--soft)}dd{margin:0 0 .3rem;overflow-wrap:anywhere}
"""


@dataclass(frozen=True)
class Span:
    """The time that plots show, in seconds."""

    first: float
    last: float

    def across(self, time: float) -> float:
        """How far to the right a moment is, from 0 to 1."""
        return (time - self.first) / max(self.last - self.first, 1.0)

    @property
    def ends(self) -> str:
        """Both ends as text, to stand below a plot."""
        shown = (datetime.fromtimestamp(t, UTC) for t in (self.first, self.last))
        left, right = (f"<span>{moment:%Y-%m-%d %H:%M}</span>" for moment in shown)
        return f'<div class="ends">{left}{right}</div>'


def span_of(entries: Iterable[Entry], now: datetime) -> Span:
    """From the first decision that is known to now; versions may have come long before."""
    told = [e.time.timestamp() for e in entries if e.what is not What.VERSION]
    told = told or [e.time.timestamp() for e in entries]
    return Span(min(told, default=now.timestamp()), now.timestamp())


def span_of_curves(curves: Iterable[Curve]) -> Span:
    """What was asked of Prometheus, as far as it knew anything."""
    times = [time for curve in curves for time, _ in (curve.points[0], curve.points[-1])]
    return Span(min(times), max(times))


def strips(entries: Sequence[Entry], span: Span) -> str:
    """A strip of time for each kind of entry, with a tick for each."""
    rows = []
    for what in What:
        mine = [e for e in entries if e.what is what]
        if not mine:
            continue
        kind = _CALLED.get(what, "c1").replace("moved", "c2")
        ticks = "".join(
            f'<rect class="{kind}" x="{_tick(e, span):.2f}" width="0.8" height="10">'
            f"<title>{escape(e.title)}</title></rect>"
            for e in mine
        )
        rows.append(
            f'<div class="row"><span class="name">{what}</span>'
            f'<svg class="strip" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
            f'aria-label="{len(mine)} of {what}">{ticks}</svg><span class="told">{len(mine)}</span></div>'
        )
    return f'<div class="bars strips">{"".join(rows)}</div>{span.ends}' if rows else ""


def lines(
    curves: Sequence[Curve],
    colours: Sequence[str],
    span: Span,
    entries: Sequence[Entry],
    top: float,
) -> str:
    """Curves between nought and `top`, with what was decided as lines across; the legend names the versions."""
    grid = "".join(
        f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}"/>' for y in (_TOP, _FLOOR)
    )
    drawn = "".join(
        _polyline(part, f"l{_colour(curve.name, colours)}", span, top)
        for curve in curves
        for part in _parts(curve.points)
    )
    marks = "".join(
        _mark(e, span)
        for e in entries
        if e.what in _CALLED and 0 <= span.across(e.time.timestamp()) <= 1
    )
    legend = "".join(
        f'<li><i class="c{_colour(curve.name, colours)}"></i>{escape(curve.name)} '
        f"<small>{percent(curve.points[-1][1])} at last</small></li>"
        for curve in curves
        if curve.name
    )
    return (
        f'<svg class="plot over" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="from 0 to {percent(top)}">{grid}{drawn}{marks}</svg>{span.ends}'
        f'<ul class="legend">{legend}</ul>'
    )


def _tick(entry: Entry, span: Span) -> float:
    """Within the strip: what came before it stands at its beginning."""
    return min(max(100 * span.across(entry.time.timestamp()), 0.0), 99.2)


def highest(curves: Iterable[Curve]) -> float:
    """Where a plot of rates may end: a little above the highest, and never beyond all."""
    most = max((value for curve in curves for _, value in curve.points), default=0.0)
    return min(max(most * 1.1, 0.01), 1.0)


def _colour(version: str, colours: Sequence[str]) -> int:
    return 1 + (colours.index(version) % COLOURS if version in colours else 0)


def _parts(points: Sequence[Point]) -> list[list[Point]]:
    """Cut where nothing was counted for a while: a line across a gap would tell of what nobody saw."""
    gaps = sorted(b[0] - a[0] for a, b in pairwise(points))
    usual = gaps[len(gaps) // 2] if gaps else 0.0
    parts = [[points[0]]]
    for before, point in pairwise(points):
        if point[0] - before[0] > 3 * usual:
            parts.append([])
        parts[-1].append(point)
    return parts


def _polyline(points: Sequence[Point], kind: str, span: Span, top: float) -> str:
    if len(points) == 1:  # a line needs two ends
        points = (points[0], (points[0][0] + (span.last - span.first) / 200, points[0][1]))
    shown = " ".join(
        f"{_WIDTH * span.across(time):.1f},{_FLOOR - (_FLOOR - _TOP) * min(max(value / top, 0.0), 1.0):.1f}"
        for time, value in points
    )
    return f'<polyline class="{kind}" points="{shown}"/>'


def _mark(entry: Entry, span: Span) -> str:
    x = f"{_WIDTH * span.across(entry.time.timestamp()):.1f}"
    return (
        f'<line class="mark {_CALLED[entry.what]}" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_FLOOR}">'
        f"<title>{escape(entry.title)}</title></line>"
    )
