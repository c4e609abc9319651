"""Who else is on the local cluster: what an ended run left goes, and a demo lends its room.

A node of two cores cannot hold the engines of both; a pod without room waits for ever.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples.quickstart import target
from examples.quickstart.kube import Kube, wait

Object = dict[str, Any]
RUN_LABEL = "trimtab.dev/test-run"  # on a run's namespace: the id of the process that made it
# On a service that was scaled to nothing: its replicas before, as JSON, so that a killed run costs a demo nothing.
LENT_ANNOTATION = "trimtab.dev/test-replicas-before"
_KIND = "inferenceservices.trimtab.dev"


def clear(kube: Kube) -> None:
    """Delete the namespaces of runs that ended without doing so."""
    for space in _all(kube, "namespaces", "-l", RUN_LABEL):
        if not Path(f"/proc/{space['metadata']['labels'][RUN_LABEL]}").exists():
            target.empty(dataclasses.replace(kube, namespace=space["metadata"]["name"]))


def namespace(name: str) -> str:
    """The manifest of this run's own namespace."""
    return (
        f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: "
        f'{{pod-security.kubernetes.io/enforce: restricted, {RUN_LABEL}: "{os.getpid()}"}}}}\n'
    )


@contextmanager
def room(kube: Kube) -> Iterator[None]:
    """All services of other namespaces at no engine, and as before when the context ends."""
    others = [
        found
        for found in _all(kube, _KIND, "--all-namespaces")
        if found["metadata"]["namespace"] != kube.namespace
    ]
    for found in others:
        now = json.dumps(found["spec"].get("replicas"))
        _patch(kube, found, _annotations(found).get(LENT_ANNOTATION, now), 0)
    for found in others:
        _wait_until_empty(kube, found["metadata"]["namespace"], found["metadata"]["name"])
    try:
        yield
    finally:
        for found in _all(kube, _KIND, "--all-namespaces"):
            if before := _annotations(found).get(LENT_ANNOTATION):
                _patch(kube, found, None, json.loads(before))


def _annotations(found: Object) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def _all(kube: Kube, kind: str, *flags: str) -> list[Object]:
    found: list[Object] = json.loads(kube.kubectl("get", kind, *flags, "-o", "json"))["items"]
    return found


def _patch(kube: Kube, found: Object, before: str | None, replicas: int | None) -> None:
    meta = found["metadata"]
    change = {
        "metadata": {"annotations": {LENT_ANNOTATION: before}},
        "spec": {"replicas": replicas},
    }
    place = ("--namespace", meta["namespace"])
    kube.kubectl("patch", _KIND, meta["name"], *place, "--type=merge", "-p", json.dumps(change))


def _wait_until_empty(kube: Kube, namespace: str, service: str) -> None:
    labels = f"trimtab.dev/inferenceservice={service},app.kubernetes.io/component=engine"

    def gone() -> bool:
        return not _all(kube, "pods", "--namespace", namespace, "-l", labels)

    wait(gone, 180, f"the end of the engines of {namespace}/{service}")
