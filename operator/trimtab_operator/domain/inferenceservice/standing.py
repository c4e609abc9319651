"""How one version stands: whether it may answer, what it still lacks, and whether keeping it is of use."""

from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1.signing import SignedParts
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.consent import quarantined, remark
from trimtab_operator.domain.inferenceservice.course import Course
from trimtab_operator.domain.inferenceservice.loads import (
    FAILED,
    LOADED,
    PASSING,
    is_at_hand,
    state_of,
    unloaded,
)
from trimtab_operator.domain.inferenceservice.routes import Known
from trimtab_operator.domain.inferenceservice.versions import misfit


def gives_way(active: RoutedVersion, resident: RoutedVersion, known: Known) -> bool:
    """Whether what answers must not, and the version before it could."""
    return (
        is_barred(active, known)
        and not is_barred(resident, known)
        and is_at_hand(resident, known.engines)
    )


def is_barred(version: RoutedVersion, known: Known) -> bool:
    """Whether people or a rollback have decided that it must not answer."""
    there = known.versions.get(version.version)
    is_isolated = there is not None and quarantined(there) is not None
    return version.digest in known.fit.consent.barred or is_isolated


def is_useful(resident: RoutedVersion, known: Known) -> bool:
    """Whether a second version that stays loaded can still be of use."""
    if resident.digest == known.leaving:
        return True
    states = (state_of(engine, resident) for engine in known.engines)
    has_failed = any(s and s.state == FAILED for s in states)
    if known.fit.is_base:
        return known.has_course and not has_failed
    version = known.versions.get(resident.version)
    if version is None or version.spec.artifact.digest != resident.digest:
        return False
    return misfit(version, known.fit) is None and not has_failed


def note_about(version: RoutedVersion, known: Known) -> str | None:
    """What people or an agent have to say about a version that is served all the same."""
    states = (state_of(engine, version) for engine in known.engines)
    noted = next((s.message for s in states if s and s.state == LOADED and s.reason), None)
    return remark(known.versions.get(version.version)) or noted


def still_lacking(version: RoutedVersion, course: Course | None, known: Known) -> Finding | None:
    """What a version lacks before it may have requests; once it has some, only what it has lost."""
    begins = known.lacking if course is None else None
    return begins or lacking(version, known)


def lacking(version: RoutedVersion, known: Known) -> Finding | None:
    """Why it cannot be relied upon yet, by the engines that it is meant for."""
    if not known.fit.is_base:
        return adapter_lacking(version, known)
    engines = [e for e in known.engines if e.base in ("", version.digest)]
    policy = known.signatures if covers_base(known) else None
    return unloaded(version, engines, policy) or _left_behind(version, known)


def adapter_lacking(version: RoutedVersion, known: Known) -> Finding | None:
    """The same of an adapter: engines of another base have nothing to do with it."""
    engines = [e for e in known.engines if version.base is None or e.base in ("", version.base)]
    return unloaded(version, engines, known.signatures)


def _left_behind(base: RoutedVersion, known: Known) -> Finding | None:
    """The adapters that a base has to wait for: each name says for itself what is in the way."""
    mine = [m for m in known.companions if m.candidate.base == base.digest]
    found = [(m.name, f) for m in mine if (f := adapter_lacking(m.candidate, known))]
    if not found:
        return None
    lasting = [f for _, f in found if f.reason not in PASSING]
    first = next(iter(lasting), found[0][1])
    waits = ", ".join(name for name, _ in found)[:256]
    return Finding(first.reason, f"{base.version} waits for {waits}", first.is_unknown)


def covers_base(known: Known) -> bool:
    """Whether the base has to be signed as well."""
    policy = known.signatures
    return policy is not None and policy.covers is not SignedParts.ADAPTERS
