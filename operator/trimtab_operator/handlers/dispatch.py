"""From a change in the store to keys in queues; nothing is decided here."""

from collections.abc import Mapping
from datetime import timedelta

from trimtab_operator.adapters.store import Key, Store, key_of, owner_of
from trimtab_operator.domain.manifests import Manifest, is_deleting
from trimtab_operator.domain.references import wake_ups
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

    def changed(self, kind: str, before: Manifest | None, after: Manifest | None) -> None:
        """An object was added, changed or removed."""
        if kind in self._queues:
            self._ours_changed(kind, before, after)
            return
        for manifest in (before, after):
            owner = owner_of(manifest) if manifest is not None else None
            if owner is not None:
                self.wake(owner[0], (owner[1], owner[2]))

    def all_again(self, spread: timedelta) -> None:
        """Every object once, over a while: the net under everything that could be missed."""
        for kind, queue in self._queues.items():
            keys = self._store.keys(kind)
            for index, key in enumerate(keys):
                queue.add_after(key, spread * (index / max(len(keys), 1)))

    def _ours_changed(self, kind: str, before: Manifest | None, after: Manifest | None) -> None:
        woken = wake_ups(kind, before, after)
        urgent = after is not None and is_deleting(after)
        subject = key_of(after or before or {})
        for target, namespace, name in woken.objects:
            is_subject = (target, (namespace, name)) == (kind, subject)
            self.wake(target, (namespace, name), urgent=urgent and is_subject)
        for named in woken.reverse:
            for referrer, key in self._store.referrers(named):
                # Versions of one model do not depend on each other.
                if named[0] == kind or referrer != kind:
                    self.wake(referrer, key)
