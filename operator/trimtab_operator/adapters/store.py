"""The observed world: one copy of each object that we own or watch, fed by watches and own writes.

An own write is stored as soon as it was answered, so that a reconcile never decides on a world
that lacks what it has just done; the watch's older view of the same object is then ignored. The
order of views of one object is that of their resource versions, which Kubernetes declares
comparable.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.domain.manifests import Manifest, get, is_owned_by
from trimtab_operator.domain.naming import ANNOTATION_OWNER
from trimtab_operator.domain.references import Target, references

Key = tuple[str, str]
Entry = tuple[str, Key]  # kind and key
R = TypeVar("R", bound=AnyResource)
Listener = Callable[[str, Manifest | None, Manifest | None], None]


def key_of(manifest: Manifest) -> Key:
    """Namespace and name."""
    return (
        get(manifest, "metadata", "namespace", default=""),
        get(manifest, "metadata", "name", default=""),
    )


def version_of(manifest: Manifest) -> int:
    """The resource version as a number; 0 where there is none."""
    return int(get(manifest, "metadata", "resourceVersion", default="0") or 0)


class Store:
    """Objects by kind and key, with the look-ups that reconcilers need."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Manifest]] = defaultdict(dict)
        self._owned: dict[Target, set[Entry]] = defaultdict(set)
        self._referrers: dict[Target, set[Entry]] = defaultdict(set)
        self._removed: dict[Entry, int] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call `listener(kind, before, after)` on each change."""
        self._listeners.append(listener)

    def find(self, kind: str, key: Key) -> Manifest | None:
        """The object, if it is known."""
        return self._objects[kind].get(key)

    def all(self, kind: str, namespace: str | None = None) -> list[Manifest]:
        """All objects of a kind."""
        return [
            manifest
            for key, manifest in self._objects[kind].items()
            if namespace is None or key[0] == namespace
        ]

    def keys(self, kind: str) -> list[Key]:
        """Keys of all objects of a kind."""
        return list(self._objects[kind])

    def count(self, kind: str) -> int:
        """How many objects of a kind are known."""
        return len(self._objects[kind])

    def owned(self, owner: Target, kind: str) -> list[Manifest]:
        """Objects of a kind that carry the owner's annotation."""
        entries = self._owned.get(owner, ())
        keys = sorted(key for found, key in entries if found == kind)
        return [self._objects[kind][key] for key in keys]

    def referrers(self, target: Target) -> list[Entry]:
        """Our objects that refer to the target."""
        return sorted(self._referrers.get(target, ()))

    def put(self, kind: str, manifest: Manifest) -> bool:
        """Remember this view of an object, unless a newer one is known."""
        key = key_of(manifest)
        before = self._objects[kind].get(key)
        version = version_of(manifest)
        if before is not None and version_of(before) >= version:
            return False
        if before is None and self._removed.get((kind, key), -1) >= version:
            return False
        self._removed.pop((kind, key), None)
        self._forget(kind, before)
        self._objects[kind][key] = manifest
        for index, target in self._index_entries(kind, manifest):
            index[target].add((kind, key))
        self._tell(kind, before, manifest)
        return True

    def remove(self, kind: str, key: Key, version: int) -> bool:
        """The object was gone at this version; a namesake that came later stays."""
        before = self._objects[kind].get(key)
        if before is None or version_of(before) > version:
            return False
        self._forget(kind, before)
        del self._objects[kind][key]
        # A late view of the dead object must not bring it back.
        self._removed[kind, key] = version
        if len(self._removed) > 10_000:
            del self._removed[next(iter(self._removed))]
        self._tell(kind, before, None)
        return True

    def _tell(self, kind: str, before: Manifest | None, after: Manifest | None) -> None:
        for listener in self._listeners:
            listener(kind, before, after)

    def _forget(self, kind: str, manifest: Manifest | None) -> None:
        if manifest is None:
            return
        entry = (kind, key_of(manifest))
        for index, target in self._index_entries(kind, manifest):
            index[target].discard(entry)
            if not index[target]:
                del index[target]

    def _index_entries(
        self, kind: str, manifest: Manifest
    ) -> Iterator[tuple[dict[Target, set[Entry]], Target]]:
        owner = owner_of(manifest)
        if owner is not None:
            yield self._owned, owner
        for target in references(kind, manifest):
            yield self._referrers, target


def owner_of(manifest: Manifest) -> Target | None:
    """Which of our objects a child works for."""
    text = get(manifest, "metadata", "annotations", ANNOTATION_OWNER, default="")
    kind, _, name = text.partition("/")
    return (kind, key_of(manifest)[0], name) if name else None


class StoreReader:
    """The reading half of the port `Cluster`, for the real adapter and for the tests' fake."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, kind: type[R], key: Key) -> R | None:
        """One of our objects."""
        manifest = self.store.find(kind.__name__, key)
        return None if manifest is None else kind.model_validate(manifest)

    def list(self, kind: type[R], namespace: str | None = None) -> Sequence[R]:
        """All of our objects of a kind."""
        return [kind.model_validate(m) for m in self.store.all(kind.__name__, namespace)]

    def referrers(self, kind: type[R], target: Target) -> Sequence[R]:
        """Our objects that refer to the target."""
        found = (
            self.get(kind, key)
            for what, key in self.store.referrers(target)
            if what == kind.__name__
        )
        return [each for each in found if each is not None]

    def children(self, owner: AnyResource, kind: str) -> Sequence[Manifest]:
        """Children of this very owner; pods belong to a child of it, and go by the annotation."""
        namespace, name = owner.key
        found = self.store.owned((type(owner).__name__, namespace, name), kind)
        if kind == "Pod":
            return found
        return [m for m in found if is_owned_by(m, owner.metadata.uid)]
