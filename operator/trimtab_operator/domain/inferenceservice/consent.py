"""What people have decided about a version, and whether it is signed, as far as a service has to heed it.

Facts of the spec, of the namespace and of decisions enter here; whether engines could serve the
version is of no interest.
"""

from dataclasses import dataclass
from typing import Final

from trimtab_api.reasons import ServiceReason
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.conditions import find, is_true
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.policy import NamespacePolicy


@dataclass(frozen=True)
class Consent:
    """What the namespace asks for, and which versions the service is served by already."""

    requires_approval: bool = False
    in_use: frozenset[str] = frozenset()
    requires_signature: bool = False

    @classmethod
    def of(cls, policy: NamespacePolicy, in_use: frozenset[str] = frozenset()) -> "Consent":
        """By the namespace's labels."""
        return cls(policy.requires_approval, in_use, policy.requires_signature)

    def against(self, version: ModelVersion) -> Finding | None:
        """Why people do not want the version to be served here."""
        return self._not_approved(version) or self._not_signed(version) or self._retired(version)

    def _not_approved(self, version: ModelVersion) -> Finding | None:
        """Of what is served already, too: whether it goes on is for the routing to say."""
        conditions, name = version.status.conditions, version.metadata.name
        if not self.requires_approval or is_true(conditions, "Approved"):
            return None
        approved = find(conditions, "Approved")
        why = f" ({approved.message})" if approved and approved.message else ""
        return Finding(
            ServiceReason.VERSION_NOT_APPROVED,
            f"ModelVersion {name} is not approved{why}, and the namespace asks for approval; "
            "name an approved version, or ask for a Decision with action Approve",
        )

    def _not_signed(self, version: ModelVersion) -> Finding | None:
        """Whether somebody trusted has signed it is for the engines to say."""
        conditions, name = version.status.conditions, version.metadata.name
        if not self.requires_signature or is_true(conditions, "Signed"):
            return None
        signed = find(conditions, "Signed")
        why = f" ({signed.message})" if signed and signed.message else ""
        return Finding(
            ServiceReason.VERSION_NOT_SIGNED,
            f"ModelVersion {name} is not signed{why}, and the namespace asks for signatures; "
            "name a signed version, or create one with spec.signing (spec.output.signing of a FineTuneJob)",
        )

    def _retired(self, version: ModelVersion) -> Finding | None:
        """Only of what would be new: existing use goes on."""
        name = version.metadata.name
        if name in self.in_use or not is_retired(version):
            return None
        return Finding(
            ServiceReason.VERSION_RETIRED,
            f"ModelVersion {name} is retired; name another version, or ask for a Decision with action Approve",
        )


NOTHING_ASKED: Final = Consent()


def is_retired(version: ModelVersion | None) -> bool:
    """Whether it must not be newly referenced."""
    return version is not None and is_true(version.status.conditions, "Retired")


def remark(version: ModelVersion | None) -> str | None:
    """What is to be said of a version that is served all the same."""
    if version is None or not is_retired(version):
        return None
    told = find(version.status.conditions, "Retired")
    return f"ModelVersion {version.metadata.name} is retired" + (
        f" ({told.message})" if told and told.message else ""
    )
