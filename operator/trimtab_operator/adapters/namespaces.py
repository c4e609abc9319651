"""Namespaces are followed for their labels: all of them, or each of those that are worked in."""

from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.kinds import NAMESPACE
from trimtab_operator.adapters.reflector import Lister
from trimtab_operator.adapters.store import Key, Store


class NamespaceLister(Lister):
    """Lists namespaces into the store; with a scope only that one, by its name.

    A role can allow to list and watch one object of a cluster-wide kind if the request selects it
    by its name.
    """

    def __init__(self, api: Api, store: Store, scope: str | None) -> None:
        super().__init__(api, NAMESPACE, store, None, "")
        self._namespace = scope
        if scope is not None:
            self.selector = {"fieldSelector": f"metadata.name={scope}"}
            self.name = f"{self.path}/{scope}"

    def covers(self, key: Key) -> bool:
        """Whether the list would show this namespace."""
        return self._namespace in {None, key[1]}
