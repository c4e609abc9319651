"""A replay as a picture: the evidence over time, the line at which drift is called, and when it was."""

from collections.abc import Sequence
from html import escape
from typing import Final

from trimtab_api.reasons import DriftReason
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.replay import Look, Replay

_WIDTH: Final = 900
_HEIGHT: Final = 260
_LEFT: Final = 60
_TOP: Final = 40
_PLOT_WIDTH: Final = _WIDTH - _LEFT - 20
_PLOT_HEIGHT: Final = _HEIGHT - _TOP - 40


def picture(replays: Sequence[Replay]) -> str:
    """One SVG document, one plot below the other."""
    height = _HEIGHT * max(len(replays), 1)
    plots = "".join(_plot(each, _HEIGHT * place) for place, each in enumerate(replays))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>{plots}</svg>\n'
    )


def _plot(replay: Replay, offset: int) -> str:
    title = escape(f"{replay.model}, {replay.version}: evidence of drift (logarithm)")
    known = [look for look in replay.looks if look.evidence is not None]
    parts = [f'<g transform="translate(0 {offset})"><text x="{_LEFT}" y="20">{title}</text>']
    if not known:
        parts.append(
            f'<text x="{_LEFT}" y="{_TOP + 20}">too little was counted to judge</text></g>'
        )
        return "".join(parts)
    values = [look.evidence for look in known if look.evidence is not None]
    low, high = min(0.0, *values), max(replay.alarm_at * 1.1, *values)
    first, last = replay.looks[0].time, replay.looks[-1].time
    span = max((last - first).total_seconds(), 1.0)

    def across(look: Look) -> float:
        return _LEFT + _PLOT_WIDTH * (look.time - first).total_seconds() / span

    def down(value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (high - value) / (high - low)

    line = " ".join(
        f"{across(look):.1f},{down(value):.1f}" for look, value in zip(known, values, strict=True)
    )
    alarm = down(replay.alarm_at)
    right = _LEFT + _PLOT_WIDTH
    parts += [
        f'<line x1="{_LEFT}" x2="{right}" y1="{alarm:.1f}" y2="{alarm:.1f}" stroke="#c0392b" stroke-dasharray="6 4"/>',
        f'<text x="{_LEFT - 6}" y="{alarm + 4:.1f}" text-anchor="end">{replay.alarm_at:.1f}</text>',
        f'<text x="{_LEFT - 6}" y="{down(low) + 4:.1f}" text-anchor="end">{low:.1f}</text>',
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 14}">{timestamp(first)}</text>',
        f'<text x="{right}" y="{_HEIGHT - 14}" text-anchor="end">{timestamp(last)}</text>',
    ]
    parts += [
        f'<line class="alarm" x1="{across(look):.1f}" x2="{across(look):.1f}" y1="{_TOP}" '
        f'y2="{_TOP + _PLOT_HEIGHT}" stroke="#c0392b"><title>{escape(look.message)}</title></line>'
        for look in replay.changes
        if look.reason == DriftReason.DRIFTING
    ]
    return "".join([*parts, "</g>"])
