"""What has to be in a pod, from what its user said about it."""

from decimal import ROUND_CEILING, Decimal
from typing import Final

from tests.builders import Manifest

GPU: Final = "nvidia.com/gpu"
_LARGEST: Final = Decimal(2**63 - 1)  # what the API server makes of anything above it
_DECIMAL: Final = {"m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def pod_faults(pod: Manifest, overrides: Manifest) -> list[str]:
    """Where a pod is not what its user said about it."""
    secrets = [s["name"] for s in overrides.get("imagePullSecrets", [])]
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    wanted = {e["name"]: e.get("value", "") for e in overrides.get("env", [])}
    tolerated = [_filled(t) for t in overrides.get("tolerations", [])]
    return [
        *unlike("nodeSelector", pod.get("nodeSelector", {}), overrides.get("nodeSelector", {})),
        *unlike("tolerations", [_filled(t) for t in pod.get("tolerations", [])], tolerated),
        *unlike(
            "the pull secrets", [s.get("name") for s in pod.get("imagePullSecrets", [])], secrets
        ),
        *unlike(
            "the priority",
            pod.get("priorityClassName", ""),
            overrides.get("priorityClassName", ""),
        ),
        *(
            f"container {container['name']} lacks {name}"
            for container in containers
            for name, value in wanted.items()
            if {"name": name, "value": value} not in [{"value": "", **e} for e in container["env"]]
        ),
    ]


def resource_faults(
    container: Manifest, cpu: str | None, memory: str | None, gpus: str | None
) -> list[str]:
    """Where a container does not ask for what its user said."""
    held = container.get("resources", {})
    wanted = {
        "requests": {"cpu": cpu, "memory": memory, GPU: gpus},
        "limits": {"cpu": None, "memory": memory, GPU: gpus},
    }
    return [
        line
        for part, amounts in wanted.items()
        for name, value in amounts.items()
        for line in unlike(f"{part}.{name}", amount(held.get(part, {}).get(name)), amount(value))
    ]


def amount(text: str | None) -> Decimal | None:
    """A quantity as the API server understands it: capped, and rounded up to a thousandth."""
    if text is None:
        return None
    number = text.rstrip("".join({*"".join(_DECIMAL), *"".join(_BINARY)}))
    unit = text[len(number) :]
    factor = Decimal(2) ** _BINARY[unit] if unit in _BINARY else Decimal(10) ** _DECIMAL[unit]
    return min(Decimal(number) * factor, _LARGEST).quantize(Decimal("0.001"), ROUND_CEILING)


def _filled(toleration: Manifest) -> Manifest:
    return {name: value for name, value in toleration.items() if value not in {"", None}}


def unlike(what: str, there: object, wanted: object) -> list[str]:
    """One sentence where the two differ."""
    return [] if there == wanted else [f"{what}: {there!r} instead of {wanted!r}"]
