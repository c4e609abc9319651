"""The loss curve as an SVG: a picture that needs no plotting library and no viewer but a browser."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 20, 40, 50
COLOURS = ("#1f6feb", "#d1570b")


class Curve(NamedTuple):
    """Losses of one job: points of (share of the job in per cent, nats per token)."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the picture; curves without points are left out."""
    shown = [curve for curve in curves if curve.points]
    losses = [loss for curve in shown for _, loss in curve.points] or [0.0, 1.0]
    low, high = min(losses), max(losses)
    room = (high - low or 1.0) * 0.08
    low, high = low - room, high + room

    def place(percent: float, loss: float) -> tuple[float, float]:
        x = LEFT + percent / 100 * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="system-ui, sans-serif" font-size="13" fill="#24292f">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">Training loss, nats per token</text>',
        *_grid(low, high, place),
    ]
    for index, curve in enumerate(shown):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in sorted(curve.points)))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT - 160}" y="{TOP + 16 + 18 * index}" fill="{colour}">{curve.name}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _grid(
    low: float, high: float, place: Callable[[float, float], tuple[float, float]]
) -> list[str]:
    lines: list[str] = []
    for index in range(6):
        loss, percent = low + (high - low) * index / 5, index * 20.0
        y, x = place(0, loss)[1], place(percent, low)[0]
        lines += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#d8dee4"/>',
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{loss:.2f}</text>',
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{percent:.0f} %</text>',
        ]
    return [
        *lines,
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">share of the job</text>',
    ]
