"""What engines say about a version: whether it can be relied upon, and why not yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_api.reasons import ServiceReason
from trimtab_api.routing import AdapterState, AgentReport, RoutedVersion
from trimtab_api.v1alpha1.signing import SignaturePolicy, SignedParts
from trimtab_operator.domain.finding import Finding

# What passes by itself, and takes no requests away from what has them.
PASSING: Final = frozenset(
    {ServiceReason.LOADING, ServiceReason.NO_ENGINE_READY, ServiceReason.AGENT_SILENT}
)
LOADED: Final = "Loaded"
FAILED: Final = "Failed"


@dataclass(frozen=True)
class EnginePod:
    """A ready engine pod and what its agent last said; None until it has said anything.

    `base` is the digest of what it holds; empty where all engines hold the same.
    """

    name: str
    address: str
    report: AgentReport | None = None
    base: str = ""

    @property
    def is_counted(self) -> bool:
        """An agent that says its engine is down takes no part; a silent one is waited for."""
        return self.report is None or self.report.engine_ready


def is_at_hand(version: RoutedVersion, engines: Sequence[EnginePod]) -> bool:
    """Whether an engine could answer by it now."""
    states = (state_of(engine, version) for engine in engines if engine.is_counted)
    return any(state is not None and state.state == LOADED for state in states)


def unloaded(
    version: RoutedVersion, engines: Sequence[EnginePod], policy: SignaturePolicy | None
) -> Finding | None:
    """Why the version cannot be relied upon yet; None when every ready engine has loaded it."""
    counted = [e for e in engines if e.is_counted]
    if not counted:
        return Finding(
            ServiceReason.NO_ENGINE_READY, f"{version.version} waits for an engine that is ready"
        )
    states = [(e.name, state_of(e, version)) for e in counted]
    for engine, state in states:
        if state is not None and state.state == FAILED:
            return Finding(
                state.reason or ServiceReason.LOAD_FAILED,
                f"{version.version} cannot be loaded on {engine}: {state.message or 'no cause given'}",
            )
    if policy is not None and (unaware := _unaware(counted, policy)):
        return unaware
    silent = [e.name for e in counted if e.report is None]
    waiting = [name for name, state in states if state is None or state.state != LOADED]
    if waiting and waiting == silent:
        return Finding.unknown(
            ServiceReason.AGENT_SILENT,
            f"{version.version}: no word yet from {', '.join(silent)[:256]}",
        )
    if waiting:
        return Finding(
            ServiceReason.LOADING,
            f"{version.version} is loaded on {len(counted) - len(waiting)} of {len(counted)} engines",
        )
    return None


def _unaware(engines: Sequence[EnginePod], policy: SignaturePolicy) -> Finding | None:
    """Engines that would load anything: what only they have looked at is not relied upon."""
    is_base_signed = policy.covers is SignedParts.ADAPTERS_AND_BASE
    names = [e.name for e in engines if e.report and not _verifies(e.report, is_base_signed)]
    if not names:
        return None
    what = "the signature of the base" if is_base_signed else "signatures"
    return Finding(
        ServiceReason.SIGNATURES_NOT_VERIFIED,
        f"{', '.join(names)[:256]} does not verify {what} yet; an engine of an older release never will: "
        "move it by the annotation trimtab.dev/engine-release",
    )


def _verifies(report: AgentReport, is_base_signed: bool) -> bool:
    return report.verifies_signatures and (report.verifies_base or not is_base_signed)


def state_of(engine: EnginePod, version: RoutedVersion) -> AdapterState | None:
    """What the agent says about the version; None where it says nothing."""
    adapters = engine.report.adapters if engine.report else []
    return next(
        (a for a in adapters if (a.version, a.digest) == (version.version, version.digest)), None
    )
