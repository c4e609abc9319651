"""A lineage graph as one SVG, from the left (where it comes from) to the right (what rests on it). Pure.

No fonts, scripts or files of elsewhere: it looks the same in a browser, on paper and beside a model card.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from trimtab_api.v1alpha1.lineage import LineageGraph, LineageKind, LineageNode

_WIDTH, _HEIGHT = 216, 58
_ACROSS, _DOWN, _MARGIN = 72, 18, 16
_LONGEST = 30
_SHOWN_OF_DIGEST: Final = len("sha256:") + 12
_CLASSES: Final = {
    LineageKind.SOURCE: "source",
    LineageKind.DATA: "data",
    LineageKind.JOB: "job",
    LineageKind.MODEL: "version",
    LineageKind.VERSION: "version",
    LineageKind.SERVICE: "service",
}
_STYLE: Final = """
.paper{fill:#fbfaf7}.box{fill:#fff;stroke:#b9b4a6}.bar{fill:#5c6670}.source .bar{fill:#8a8f95}.data .bar{fill:#4d9a6a}
.job .bar{fill:#d98e2b}.version .bar{fill:#2f6fab}.service .bar{fill:#8452a8}.self .box{stroke:#2f6fab;stroke-width:2.5}
text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:#1d2329}.kind,.digest{font-size:10px;fill:#5c6670}
.digest{font-family:ui-monospace,monospace}.edge{fill:none;stroke:#8a8f95;stroke-width:1.4}.tip{fill:#8a8f95}
"""
_ARROW: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
)


@dataclass(frozen=True)
class _Place:
    x: float
    y: float


def svg(graph: LineageGraph, title: str) -> str:
    """The picture; its first node is the one that it is about."""
    columns = _columns(graph)
    places = _places(columns)
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _ACROSS) - _ACROSS
    tallest = max((len(c) for c in columns), default=1)
    height = 2 * _MARGIN + tallest * (_HEIGHT + _DOWN) - _DOWN + (20 if graph.omitted else 0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">'
    )
    parts = [
        head,
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        _ARROW,
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *(_edge(places[e.source], places[e.target], e.relation) for e in graph.edges),
        *(_box(node, places[node.id], is_self=node is graph.nodes[0]) for node in graph.nodes),
    ]
    if graph.omitted:
        parts.append(
            f'<text class="kind" x="{_MARGIN}" y="{height - 10}">and {graph.omitted} more that are not shown</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _columns(graph: LineageGraph) -> list[list[LineageNode]]:
    """Each node as far right as what rests on it allows, and near it in height, so that few lines cross."""
    left_of = _steps_to_the_end(graph)
    last = max(left_of.values(), default=-1)
    found: list[list[LineageNode]] = [[] for _ in range(last + 1)]
    for node in graph.nodes:
        found[last - left_of[node.id]].append(node)
    row: dict[str, float] = {}
    for column in reversed(found):
        heights = {node.id: _mean(row, graph, node.id) for node in column}
        column.sort(key=lambda node: heights[node.id])
        row |= {node.id: number - len(column) / 2 for number, node in enumerate(column)}
    return [column for column in found if column]


def _mean(row: Mapping[str, float], graph: LineageGraph, node: str) -> float:
    """The height of what rests on a node, which is placed already."""
    rows = [row[e.target] for e in graph.edges if e.source == node and e.target in row]
    return sum(rows) / len(rows) if rows else 0


def _steps_to_the_end(graph: LineageGraph) -> dict[str, int]:
    """The longest way from each node. A circle, which only a user can have written, ends it."""
    steps = {node.id: 0 for node in graph.nodes}
    for _ in graph.nodes:
        moved = False
        for edge in graph.edges:
            wanted = min(steps[edge.target] + 1, len(graph.nodes) - 1)
            if steps[edge.source] < wanted:
                steps[edge.source], moved = wanted, True
        if not moved:
            break
    return steps


def _places(columns: Sequence[Sequence[LineageNode]]) -> Mapping[str, _Place]:
    tallest = max((len(c) for c in columns), default=1)
    step = _HEIGHT + _DOWN
    return {
        node.id: _Place(
            _MARGIN + number * (_WIDTH + _ACROSS),
            _MARGIN + (tallest - len(column)) * step / 2 + row * step,
        )
        for number, column in enumerate(columns)
        for row, node in enumerate(column)
    }


def _edge(source: _Place, target: _Place, relation: str) -> str:
    x1, y1 = source.x + _WIDTH, source.y + _HEIGHT / 2
    x2, y2 = target.x - 1, target.y + _HEIGHT / 2
    bend = max((x2 - x1) / 2, _ACROSS / 2)
    return (
        f'<path class="edge" marker-end="url(#tip)" d="M{x1:.0f} {y1:.1f}C{x1 + bend:.0f} {y1:.1f} '
        f'{x2 - bend:.0f} {y2:.1f} {x2:.0f} {y2:.1f}"><title>{escape(relation)}</title></path>'
    )


def _box(node: LineageNode, place: _Place, *, is_self: bool) -> str:
    kind = node.kind.value + (f" · {_cut(node.note)}" if node.note else "")
    classes = _CLASSES[node.kind] + (" self" if is_self else "")
    told = "\n".join(part for part in (node.kind.value, node.name, node.digest, node.note) if part)
    x, y = place.x, place.y
    digest = node.digest[:_SHOWN_OF_DIGEST] if node.digest else ""
    return (
        f'<g class="{classes}"><title>{escape(told)}</title>'
        f'<rect class="box" x="{x:.0f}" y="{y:.1f}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<rect class="bar" x="{x:.0f}" y="{y + 6:.1f}" width="4" height="{_HEIGHT - 12}"/>'
        f'<text class="kind" x="{x + 12:.0f}" y="{y + 16:.1f}">{escape(kind)}</text>'
        f'<text x="{x + 12:.0f}" y="{y + 33:.1f}">{escape(_cut(node.name))}</text>'
        f'<text class="digest" x="{x + 12:.0f}" y="{y + 48:.1f}">{escape(digest)}</text></g>'
    )


def _cut(text: str) -> str:
    """The end of an address or a name tells more than its middle."""
    if len(text) <= _LONGEST:
        return text
    half = (_LONGEST - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
