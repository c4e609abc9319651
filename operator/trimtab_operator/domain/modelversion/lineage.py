"""The lineage of a version as a graph: data -> job -> version -> services, and the same of its base.

What a version was made from is a record: it only grows, and stays when its jobs, its Dataset and
its parent are gone. What rests on the version is as it is now.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from trimtab_api.v1alpha1 import Dataset, FineTuneJob, ModelVersion
from trimtab_api.v1alpha1.lineage import (
    MAX_EDGES,
    MAX_NODES,
    LineageEdge,
    LineageGraph,
    LineageKind,
    LineageNode,
    LineageRelation,
)
from trimtab_api.v1alpha1.modelversion import ArtifactKind, Producer
from trimtab_operator.domain.modelversion.usage import Use
from trimtab_operator.domain.naming import digest_of

SOURCES_AT_MOST: Final = 16
_SHOWN_OF_DIGEST: Final = len("sha256:") + 12


@dataclass(frozen=True)
class Around:
    """What is known beside the version; each of them may be gone."""

    base: ModelVersion | None = None
    parent: ModelVersion | None = None
    # Addresses that the data was read from.
    sources: tuple[str, ...] = ()
    # The model that a full version was trained from, where that is none of ours: address and digest.
    origin: tuple[str, str] | None = None
    producers: Sequence[Producer] = ()
    users: Sequence[Use] = ()


@dataclass
class _Drawn:
    """A graph in the making: a node once, an edge once."""

    nodes: dict[str, LineageNode] = field(default_factory=dict)
    edges: dict[tuple[str, str], LineageEdge] = field(default_factory=dict)

    def node(
        self, kind: LineageKind, name: str, digest: str | None = None, note: str | None = None
    ) -> str:
        key = f"{kind}/{_key(kind, name, digest)}"
        self.nodes[key] = LineageNode(
            id=key, kind=kind, name=name[:1024], digest=digest, note=(note or "")[:256] or None
        )
        return key

    def edge(self, source: str, target: str, relation: LineageRelation) -> None:
        if source != target:
            made = LineageEdge(source=source, target=target, relation=relation)
            self.edges[source, target] = made

    def forget(self, target: str, relations: Collection[LineageRelation]) -> None:
        """What was known of a node before its job was: the job stands between them now."""
        self.edges = {
            ends: e
            for ends, e in self.edges.items()
            if e.target != target or e.relation not in relations
        }

    def add(self, graph: LineageGraph) -> None:
        """What is there already is newer."""
        self.nodes = {n.id: n for n in graph.nodes} | self.nodes
        self.edges = {(e.source, e.target): e for e in graph.edges} | self.edges


def graph(version: ModelVersion, around: Around) -> LineageGraph:
    """The graph as it is to be shown. Same inputs, same graph."""
    drawn = _Drawn()
    myself = _version(drawn, version)
    for other in (around.parent, around.base):
        if other is not None:
            drawn.add(_upstream(other.status.lineage, _id_of(other)))
            _version(drawn, other)
    if version.status.lineage is not None:
        drawn.add(_upstream(version.status.lineage, myself))
    _made_from(drawn, version, myself, around)
    for use in around.users:
        user = drawn.node(LineageKind(use.kind), use.name, note=use.role)
        drawn.edge(myself, user, _RELATION_OF_USERS[use.kind])
    return _bounded(drawn, myself)


def sources_of(
    version: ModelVersion, dataset: Dataset | None, jobs: Iterable[FineTuneJob]
) -> tuple[str, ...]:
    """Where the data of the version was read from, as long as whoever says so is about the same data."""
    known = version.spec.lineage.dataset
    if known is None:
        return ()
    if dataset is not None and dataset.status.digest == known.digest:
        is_this = dataset.status.prepared_generation == dataset.metadata.generation
        return tuple(s.uri for s in dataset.spec.sources) if is_this else ()
    for job in jobs:
        inline, resolved = job.spec.dataset.inline, job.status.resolved
        if inline is not None and resolved and resolved.dataset_digest == known.digest:
            return tuple(s.uri for s in inline.sources)
    return ()


def origin_of(version: ModelVersion, jobs: Iterable[FineTuneJob]) -> tuple[str, str] | None:
    """What a full version's training began with; an adapter says so itself."""
    if version.spec.artifact.kind is not ArtifactKind.FULL:
        return None
    for job in jobs:
        source, resolved = job.spec.base_model, job.status.resolved
        has_made_it = job.status.model_version == version.metadata.name
        if has_made_it and source.uri and resolved and resolved.base_model_digest:
            name = f"{source.uri}@{source.revision}" if source.revision else source.uri
            return name, resolved.base_model_digest
    return None


_RELATION_OF_USERS: Final = {
    "InferenceService": LineageRelation.SERVED_BY,
    "FineTuneJob": LineageRelation.STARTED,
    "ModelVersion": LineageRelation.BASE_OF,
}


def _made_from(drawn: _Drawn, version: ModelVersion, myself: str, around: Around) -> None:
    """Data and base go into the jobs that made the version; where none is known, into the version."""
    jobs = _jobs(drawn, myself, around.producers)
    data, known = version.spec.lineage.dataset, version.spec.lineage
    if data is not None:
        prepared = drawn.node(LineageKind.DATA, data.name or "inline data", data.digest)
        for target in jobs or [myself]:
            drawn.edge(prepared, target, LineageRelation.TRAINED)
        for uri in around.sources[:SOURCES_AT_MOST]:
            source = drawn.node(LineageKind.SOURCE, uri)
            drawn.edge(source, prepared, LineageRelation.PREPARED_INTO)
    base = _base(drawn, version, around.base)
    if base is not None:
        drawn.edge(base, myself, LineageRelation.BASE_OF)
    if around.origin is not None and known.parent is None:
        base = drawn.node(LineageKind.MODEL, *around.origin)
    parent = base if known.parent is None else _parent(drawn, known.parent, around)
    if parent is None:
        return
    for job in jobs:
        drawn.edge(parent, job, LineageRelation.STARTED)
    if not jobs and parent != base:
        drawn.edge(parent, myself, LineageRelation.STARTED)


def _jobs(drawn: _Drawn, myself: str, producers: Sequence[Producer]) -> list[str]:
    jobs = [
        drawn.node(LineageKind.JOB, p.fine_tune_job, note=f"by {p.author}" if p.author else None)
        for p in producers
    ]
    if jobs:
        drawn.forget(myself, {LineageRelation.TRAINED, LineageRelation.STARTED})
    for job in jobs:
        drawn.edge(job, myself, LineageRelation.MADE)
    return jobs


def _base(drawn: _Drawn, version: ModelVersion, base: ModelVersion | None) -> str | None:
    """An adapter's base: a version of ours, or a model by its digest."""
    spec = version.spec.base_model
    if spec is None or version.spec.artifact.kind is ArtifactKind.FULL:
        return None
    if base is not None:
        return _version(drawn, base)
    if spec.model_version is not None:
        known = f"{LineageKind.VERSION}/{spec.model_version.name}"
        digest = version.status.base_digest
        return (
            known
            if known in drawn.nodes
            else drawn.node(LineageKind.VERSION, spec.model_version.name, digest)
        )
    uri = spec.uri or ""
    return drawn.node(LineageKind.MODEL, spec.origin or uri, digest_of(uri))


def _parent(drawn: _Drawn, name: str, around: Around) -> str:
    if around.parent is not None:
        return _version(drawn, around.parent)
    known = f"{LineageKind.VERSION}/{name}"
    return known if known in drawn.nodes else drawn.node(LineageKind.VERSION, name)


def _version(drawn: _Drawn, version: ModelVersion) -> str:
    return drawn.node(LineageKind.VERSION, version.metadata.name, version.spec.artifact.digest)


def _id_of(version: ModelVersion) -> str:
    return f"{LineageKind.VERSION}/{version.metadata.name}"


def _key(kind: LineageKind, name: str, digest: str | None) -> str:
    """Objects have names; content is known by its digest, a source by its address."""
    if kind in {LineageKind.DATA, LineageKind.MODEL} and digest:
        return digest[:_SHOWN_OF_DIGEST]
    return name[:300]


def _upstream(known: LineageGraph | None, node: str) -> LineageGraph:
    """The part of a graph from which the node follows, without the node's own edges to others."""
    if known is None:
        return LineageGraph()
    before: dict[str, list[LineageEdge]] = {}
    for edge in known.edges:
        before.setdefault(edge.target, []).append(edge)
    reached, edges, waiting = {node}, [], deque([node])
    while waiting:
        for edge in before.get(waiting.popleft(), []):
            edges.append(edge)
            if edge.source not in reached:
                reached.add(edge.source)
                waiting.append(edge.source)
    return LineageGraph(nodes=[n for n in known.nodes if n.id in reached], edges=edges)


def _bounded(drawn: _Drawn, myself: str) -> LineageGraph:
    """The nearest first, what came before ahead of what came after; the rest is counted."""
    order = [myself, *_by_distance(drawn, myself, back=True)]
    order += [n for n in _by_distance(drawn, myself, back=False) if n not in order]
    shown = [drawn.nodes[key] for key in order if key in drawn.nodes][:MAX_NODES]
    kept = {node.id for node in shown}
    edges = sorted(
        (e for e in drawn.edges.values() if {e.source, e.target} <= kept),
        key=lambda e: (e.source, e.target),
    )
    return LineageGraph(nodes=shown, edges=edges[:MAX_EDGES], omitted=len(order) - len(shown))


def _by_distance(drawn: _Drawn, start: str, *, back: bool) -> list[str]:
    """Everything on one side of a node, the nearest first, then by id."""
    steps: dict[str, list[str]] = {}
    for source, target in drawn.edges:
        here, there = (target, source) if back else (source, target)
        steps.setdefault(here, []).append(there)
    found: dict[str, None] = {}
    layer = [start]
    while layer:
        nearest = sorted(
            {n for here in layer for n in steps.get(here, [])} - {start} - found.keys()
        )
        found |= dict.fromkeys(nearest)
        layer = nearest
    return list(found)
