"""The observed world: one copy of each object that we own or watch, fed by watches and own writes.

An own write is stored as soon as it was answered, so that a reconcile never decides on a world
that lacks what it has just done; the watch's older view of the same object is then ignored. The
order of views of one object is that of their resource versions, which Kubernetes declares
comparable.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import orjson

from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.domain.manifests import Manifest, get, is_owned_by
from trimtab_operator.domain.naming import ANNOTATION_OWNER
from trimtab_operator.domain.policy import NamespacePolicy
from trimtab_operator.domain.references import REFERRING, Target, View

Key = tuple[str, str]
Entry = tuple[str, Key]  # kind and key
R = TypeVar("R", bound=AnyResource)
_REMEMBERED_REMOVALS: Final = 10_000


def key_of(manifest: Manifest) -> Key:
    """Namespace and name."""
    metadata = manifest.get("metadata") or {}
    return metadata.get("namespace") or "", metadata.get("name") or ""


def version_of(manifest: Manifest) -> int:
    """The resource version as a number; 0 where there is none."""
    return int((manifest.get("metadata") or {}).get("resourceVersion") or 0)


@dataclass(frozen=True, slots=True)
class Known:
    """An object as the store keeps it: what is asked for at every change, and the rest as JSON.

    As text an object takes a quarter of what its dictionaries take, and there are ten thousands.
    """

    version: int
    owner: Target | None
    view: View | None  # of our own kinds
    text: bytes

    @classmethod
    def of(cls, kind: str, manifest: Manifest) -> "Known":
        """What is kept of this object."""
        view = View.of(kind, manifest) if kind in REFERRING else None
        # A copy, since orjson's own bytes keep the room that they grew into: several times the text.
        text = bytes(memoryview(orjson.dumps(manifest)))
        return cls(version_of(manifest), owner_of(manifest), view, text)

    @property
    def references(self) -> frozenset[Target]:
        """What it refers to."""
        return frozenset() if self.view is None else self.view.references

    def manifest(self) -> Manifest:
        """A copy of the object."""
        result: Manifest = orjson.loads(self.text)
        return result


Listener = Callable[[str, Known | None, Known | None], None]


class Store:
    """Objects by kind and key, with the look-ups that reconcilers need."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Known]] = defaultdict(dict)
        self._owned: dict[Target, set[Entry]] = {}
        self._referrers: dict[Target, set[Entry]] = {}
        self._removed: dict[Entry, int] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call `listener(kind, before, after)` on each change."""
        self._listeners.append(listener)

    def find(self, kind: str, key: Key) -> Manifest | None:
        """The object, if it is known."""
        found = self._objects[kind].get(key)
        return None if found is None else found.manifest()

    def text(self, kind: str, key: Key) -> bytes | None:
        """The object as JSON, if it is known."""
        found = self._objects[kind].get(key)
        return None if found is None else found.text

    def all(self, kind: str) -> list[Manifest]:
        """All objects of a kind."""
        return [known.manifest() for known in self._objects[kind].values()]

    def keys(self, kind: str) -> list[Key]:
        """Keys of all objects of a kind."""
        return list(self._objects[kind])

    def those_behind(self, kind: str) -> set[Key]:
        """Keys of our objects whose status is not yet about the spec that they have."""
        known = self._objects[kind].items()
        return {key for key, each in known if each.view is not None and each.view.is_behind}

    def count(self, kind: str) -> int:
        """How many objects of a kind are known."""
        return len(self._objects[kind])

    def owned(self, owner: Target, kind: str) -> list[Manifest]:
        """Objects of a kind that carry the owner's annotation."""
        entries = self._owned.get(owner, ())
        keys = sorted(key for found, key in entries if found == kind)
        return [self._objects[kind][key].manifest() for key in keys]

    def referrers(self, target: Target) -> list[Entry]:
        """Our objects that refer to the target."""
        return sorted(self._referrers.get(target, ()))

    def is_news(self, kind: str, manifest: Manifest) -> bool:
        """Whether neither this view of an object nor a newer one is known."""
        key = key_of(manifest)
        before = self._objects[kind].get(key)
        known = self._removed.get((kind, key), -1) if before is None else before.version
        return known < version_of(manifest)

    def put(self, kind: str, manifest: Manifest) -> bool:
        """Remember this view of an object, unless a newer one is known."""
        if not self.is_news(kind, manifest):
            return False
        key = key_of(manifest)
        before = self._objects[kind].get(key)
        self._removed.pop((kind, key), None)
        after = Known.of(kind, manifest)
        self._objects[kind][key] = after
        self._index((kind, key), before, after)
        self._tell(kind, before, after)
        return True

    def remove(self, kind: str, key: Key, version: int) -> bool:
        """The object was gone at this version; a namesake that came later stays."""
        before = self._objects[kind].get(key)
        if before is None or before.version > version:
            return False
        del self._objects[kind][key]
        self._index((kind, key), before, None)
        # A late view of the dead object must not bring it back.
        self._removed[kind, key] = version
        if len(self._removed) > _REMEMBERED_REMOVALS:
            del self._removed[next(iter(self._removed))]
        self._tell(kind, before, None)
        return True

    def _tell(self, kind: str, before: Known | None, after: Known | None) -> None:
        for listener in self._listeners:
            listener(kind, before, after)

    def _index(self, entry: Entry, before: Known | None, after: Known | None) -> None:
        _moved(self._owned, entry, _owners(before), _owners(after))
        old = frozenset() if before is None else before.references
        new = frozenset() if after is None else after.references
        _moved(self._referrers, entry, old, new)


def _owners(known: Known | None) -> frozenset[Target]:
    return frozenset() if known is None or known.owner is None else frozenset((known.owner,))


def _moved(
    index: dict[Target, set[Entry]], entry: Entry, old: frozenset[Target], new: frozenset[Target]
) -> None:
    if old == new:
        return
    for target in old - new:
        index[target].discard(entry)
        if not index[target]:
            del index[target]
    for target in new - old:
        index.setdefault(target, set()).add(entry)


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
        text = self.store.text(kind.__name__, key)
        return None if text is None else kind.model_validate_json(text)

    def referrers(self, kind: type[R], target: Target) -> Sequence[R]:
        """Our objects that refer to the target."""
        found = (
            self.get(kind, key)
            for what, key in self.store.referrers(target)
            if what == kind.__name__
        )
        return [each for each in found if each is not None]

    def policy(self, namespace: str) -> NamespacePolicy:
        """What a namespace asks for."""
        known = self.store.find("Namespace", ("", namespace))
        labels = None if known is None else get(known, "metadata", "labels", default={})
        return NamespacePolicy.of(labels)

    def children(self, owner: AnyResource, kind: str) -> Sequence[Manifest]:
        """Children of this very owner; pods belong to a child of it, and go by the annotation."""
        namespace, name = owner.key
        found = self.store.owned((type(owner).__name__, namespace, name), kind)
        if kind == "Pod":
            return found
        return [m for m in found if is_owned_by(m, owner.metadata.uid)]
