"""When a write would change nothing, and what a smaller write has to say.

Observed objects hold more than what was asked for (defaults, fields of other managers), so "same"
means: everything asked for is there, and what was asked last time is what is asked now.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
# Users write fewer units; the API server answers with the shortest form, whatever its unit.
_UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
# One label more than was asked for, and they select something else.
_WHOLE = frozenset({"selector", "podSelector", "namespaceSelector", "labelSelector"})
_LARGEST = Decimal(2**63 - 1)
_FINEST = Decimal("0.001")


def fingerprint(content: object) -> str:
    """What can be said in JSON as a short text; equal for what is equal."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def includes(observed: Any, wanted: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether everything that is wanted is there; amounts may be spelled in another unit."""
    if not wanted and not observed:
        # The API server leaves out what is empty, and false where that is the default.
        return True
    if isinstance(wanted, dict):
        return isinstance(observed, dict) and all(
            observed.get(key) == value if key in _WHOLE else includes(observed.get(key), value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(observed, list | tuple)
            and len(observed) == len(wanted)
            and all(includes(o, w) for o, w in zip(observed, wanted, strict=True))
        )
    return bool(observed == wanted) or _equal(observed, wanted)


def merge_patch(before: Any, after: Any) -> Any:  # noqa: ANN401 - JSON
    """The JSON merge patch (RFC 7396) from one object to the other; empty where they are equal."""
    changes: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            inner = merge_patch(old, value)
            if inner:
                changes[key] = inner
        elif key not in before or old != value:
            changes[key] = value
    return changes


def merged(target: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """The target after a JSON merge patch."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def amount(text: object) -> Decimal | None:
    """A Kubernetes quantity as a number; None for any other text.

    As the API server keeps it: no larger than an int64, rounded up to a thousandth.
    """
    found = _QUANTITY.match(text) if isinstance(text, str) else None
    if not found:
        return None
    exact = Decimal(found[1]) * _UNITS[found[2] or ""]
    return min(exact, _LARGEST).quantize(_FINEST, ROUND_CEILING)


def _equal(observed: object, wanted: object) -> bool:
    left, right = amount(observed), amount(wanted)
    return left is not None and left == right
