"""Small plots as inline SVG; their text is HTML beside them, so that it stays readable on a phone. Pure."""

from collections.abc import Mapping, Sequence
from html import escape

from trimtab_api.pages import number, percent

_WIDTH, _HEIGHT = 360, 150
_LEFT, _BOTTOM, _TOP = 4, 22, 8
_MOST_TICKS = 7
SPLIT_CLASSES = {"train": "c1", "validation": "c2", "test": "c3"}


def shares(parts: Sequence[tuple[str, int]]) -> str:
    """One bar that is divided; every part has its line in the legend."""
    total = sum(count for _, count in parts) or 1
    position = 0.0
    pieces = []
    for place, (_, count) in enumerate(parts):
        width = 100 * count / total
        pieces.append(
            f'<rect class="c{place + 1}" x="{position:.2f}" width="{width:.2f}" height="10"/>'
        )
        position += width
    told = ", ".join(f"{name} {count}" for name, count in parts)
    legend = "".join(
        f'<li><i class="c{place + 1}"></i>{escape(name)} <b>{number(count)}</b> '
        f"<small>{percent(count / total)}</small></li>"
        for place, (name, count) in enumerate(parts)
    )
    return (
        f'<svg class="whole" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">'
        f'{"".join(pieces)}</svg><ul class="legend">{legend}</ul>'
    )


def histogram(edges: Sequence[int], counts: Mapping[str, Sequence[int]]) -> str:
    """Columns between the edges, the splits stacked."""
    columns = len(edges) - 1
    if columns < 1:
        return ""
    heights = [sum(part[n] for part in counts.values()) for n in range(columns)]
    scale = (_HEIGHT - _BOTTOM - _TOP) / (max(heights) or 1)
    step = (_WIDTH - 2 * _LEFT) / columns
    floor = _HEIGHT - _BOTTOM
    shapes = []
    for column in range(columns):
        base = float(floor)
        for split, part in counts.items():
            height = part[column] * scale
            if height:
                base -= height
                shapes.append(
                    f'<rect class="{SPLIT_CLASSES.get(split, "c1")}" x="{_LEFT + column * step + 0.5:.1f}" '
                    f'y="{base:.1f}" width="{step - 1:.1f}" height="{height:.1f}"/>'
                )
    every = -(-len(edges) // _MOST_TICKS)
    ticks = [
        f'<text x="{_LEFT + n * step:.1f}" y="{_HEIGHT - 6}" text-anchor="{_anchor(n, len(edges))}">'
        f"{number(edges[n])}</text>"
        for n in range(0, len(edges), every)
    ]
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Records by length, from {edges[0]} to {edges[-1]}">'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{floor}" y2="{floor}"/>'
        f"{''.join(shapes)}{''.join(ticks)}</svg>"
    )


def _anchor(place: int, count: int) -> str:
    if place == 0:
        return "start"
    return "end" if place == count - 1 else "middle"
