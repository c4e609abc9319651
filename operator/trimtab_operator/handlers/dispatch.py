"""From a change in the store to keys in queues; nothing is decided here."""

from collections.abc import Mapping
from datetime import timedelta

from trimtab_operator.adapters.kinds import NAMESPACE
from trimtab_operator.adapters.store import Key, Known, Store
from trimtab_operator.domain.manifests import get
from trimtab_operator.domain.policy import NamespacePolicy
from trimtab_operator.domain.references import MODEL, VERSION, wake_ups
from trimtab_operator.workqueue import WorkQueue


class Dispatcher:
    """Listens to the store and knows which queue a kind has."""

    def __init__(self, store: Store, queues: Mapping[str, WorkQueue]) -> None:
        self._store = store
        self._queues = queues
        store.subscribe(self.changed)

    def wake(self, kind: str, key: Key, *, urgent: bool = False) -> None:
        """Put a key into its kind's queue, if that kind has one."""
        queue = self._queues.get(kind)
        if queue is not None:
            queue.add(key, urgent=urgent)

    def changed(self, kind: str, before: Known | None, after: Known | None) -> None:
        """An object was added, changed or removed."""
        if kind in self._queues:
            self._ours_changed(before, after)
            return
        if kind == NAMESPACE.name:
            self._namespace_changed(before, after)
            return
        for known in (before, after):
            if known is not None and known.owner is not None:
                owner, namespace, name = known.owner
                self.wake(owner, (namespace, name))

    def all_again(self, spread: timedelta) -> None:
        """Every object once, over a while: the net under everything that could be missed.

        Those go first of which something is known to be due: after a start they have waited longest.
        """
        for kind, queue in self._queues.items():
            behind = self._store.those_behind(kind)
            keys = sorted(self._store.keys(kind), key=lambda key: key not in behind)
            for index, key in enumerate(keys):
                queue.add_after(key, spread * (index / max(len(keys), 1)))

    def _namespace_changed(self, before: Known | None, after: Known | None) -> None:
        """Other rules may hold for everything that is in it."""
        if after is None or (before is not None and _policy(before) == _policy(after)):
            return
        name = get(after.manifest(), "metadata", "name")
        for kind in self._queues:
            for key in self._store.keys(kind):
                if key[0] == name:
                    self.wake(kind, key)

    def _ours_changed(self, before: Known | None, after: Known | None) -> None:
        old, new = (None if known is None else known.view for known in (before, after))
        woken = wake_ups(old, new)
        for target in woken.objects:
            kind, namespace, name = target
            is_urgent = new is not None and new.is_deleting and target == new.target
            self.wake(kind, (namespace, name), urgent=is_urgent)
        for named in woken.reverse:
            for referrer, referring in self._store.referrers(named):
                # Versions of one model do not depend on each other.
                if (named[0], referrer) != (MODEL, VERSION):
                    self.wake(referrer, referring)


def _policy(known: Known) -> NamespacePolicy:
    return NamespacePolicy.of(get(known.manifest(), "metadata", "labels", default={}))
