"""What a namespace asks for, as its labels say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trimtab_api import names


@dataclass(frozen=True)
class NamespacePolicy:
    """The rules of one namespace."""

    requires_approval: bool = False
    separates_duties: bool = False
    requires_signature: bool = False

    @classmethod
    def of(cls, labels: Mapping[str, str] | None) -> "NamespacePolicy":
        """As the labels say; of a namespace that is not known yet, everything is asked.

        It will be known in a moment. What was let through until then would have to be taken back.
        """
        if labels is None:
            return cls(requires_approval=True, separates_duties=True, requires_signature=True)
        return cls(
            requires_approval=labels.get(names.LABEL_REQUIRE_APPROVAL) == "true",
            separates_duties=labels.get(names.LABEL_SEPARATION_OF_DUTIES) == "true",
            requires_signature=labels.get(names.LABEL_REQUIRE_SIGNATURE) == "true",
        )


NO_RULES: Final = NamespacePolicy()
