"""What the tests of upgrades need: a next release of the chart, callers, and a record of what pods did.

The next release is a real one to Kubernetes and Helm: a chart of a higher version, whose images have
a tag that no pod has run before. What is in them is the same.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from examples.quickstart import target
from examples.quickstart.kube import CommandFailed, wait
from tests.e2e import callers
from tests.e2e.machine import Machine
from tests.e2e.world import Object, World, pods, statuses

from trimtab_api import names

CHART = target.ROOT / "charts" / "trimtab"
NEXT = "99.0.0"
CALLERS = "callers"


# The release.


@contextmanager
def next_chart(machine: Machine, images: str, folder: Path) -> Iterator[Path]:
    """A chart of a higher version, and its images on the node while the context lasts."""
    chart = folder / "next-release"
    shutil.copytree(CHART, chart)
    file = chart / "Chart.yaml"
    said = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**said, "version": NEXT, "appVersion": NEXT}))
    with machine.also_called([f"{images}/{name}" for name in target.IMAGES], "dev", NEXT):
        yield chart


def upgrade(world: World, chart: Path) -> None:
    """As an administrator does: the values stay, the images are those of the chart."""
    world.kube.helm(
        "upgrade",
        target.RELEASE,
        str(chart),
        *("--namespace", target.RELEASE_NAMESPACE, "--reuse-values"),
        *("--set", "images.tag=", "--wait", "--timeout", "5m"),
    )


def roll_back(world: World) -> None:
    """To the release before."""
    namespace = ("--namespace", target.RELEASE_NAMESPACE)
    world.kube.helm("rollback", target.RELEASE, *namespace, "--wait", "--timeout", "5m")


def chart_version(world: World) -> str:
    """Version of the chart that is installed."""
    listed = world.kube.helm("list", "--namespace", target.RELEASE_NAMESPACE, "-o", "json")
    found = next(r["chart"] for r in json.loads(listed) if r["name"] == target.RELEASE)
    return str(found).removeprefix("trimtab-")


# Pods.


def living(world: World, selector: str, namespace: str = "") -> list[Object]:
    """The pods that are not on their way out."""
    found = pods(world, selector, namespace)
    return [p for p in found if "deletionTimestamp" not in p["metadata"]]


def uids(found: list[Object]) -> set[str]:
    """Which pods these are."""
    return {p["metadata"]["uid"] for p in found}


def tags(found: list[Object]) -> set[str]:
    """Tags of all images that the pods run."""
    specs = [p["spec"] for p in found]
    parts = [c for s in specs for c in (*s["containers"], *s.get("initContainers", []))]
    return {c["image"].rpartition(":")[2] for c in parts}


def restarted(found: list[Object]) -> int:
    """How often containers of these pods were restarted."""
    return sum(s["restartCount"] for p in found for s in statuses(p))


def is_available(pod: Object) -> bool:
    """Whether requests go there."""
    ready = any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions", [])
    )
    return ready and "deletionTimestamp" not in pod["metadata"]


def rolled(world: World, selector: str, tag: str, count: int, seconds: float) -> None:
    """Wait until so many pods run images of this tag, all others have gone, and all are ready."""

    def over() -> bool:
        found = pods(world, selector)
        return len(found) == count and tags(found) == {tag} and all(map(is_available, found))

    wait(over, seconds, f"{count} pods of {selector} with images {tag} and no others", every=1)


@dataclass(frozen=True)
class Moment:
    """How many pods of one part there were after a change."""

    available: int
    starting: int


@dataclass
class History:
    """What happened to the pods of a service, as the API server told it."""

    events: list[Object] = field(default_factory=list)

    def of(self, component: str, wanted: int) -> list[Moment]:
        """From the moment at which so many pods of a part were known to be available."""
        known: dict[str, Object] = {}
        moments: list[Moment] = []
        for event in self.events:
            pod = event["object"]
            if pod["metadata"]["labels"].get(names.LABEL_COMPONENT) != component:
                continue
            known[pod["metadata"]["uid"]] = pod
            if event["type"] == "DELETED":
                del known[pod["metadata"]["uid"]]
            there = [p for p in known.values() if "deletionTimestamp" not in p["metadata"]]
            available = sum(map(is_available, there))
            moments.append(Moment(available, len(there) - available))
        first = next(i for i, moment in enumerate(moments) if moment.available >= wanted)
        return moments[first:]


@contextmanager
def recorded(world: World, service: str) -> Iterator[History]:
    """All that happens to the pods of a service while the context lasts."""
    history = History()
    selector = f"trimtab.dev/inferenceservice={service}"
    watch = ("get", "pods", "--selector", selector, "--watch", "--output-watch-events")
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(
            [world.kube.tool("kubectl"), "-n", world.kube.namespace, *watch, "-o", "json"],
            env=world.kube.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
        )
        try:
            yield history
        finally:
            process.terminate()
            process.wait()
            file.seek(0)
            history.events += documents(file.read())


def documents(text: str) -> list[Object]:
    """The JSON documents of a text, one after the other; the last one may be cut off."""
    decoder, found, at = json.JSONDecoder(), [], 0
    with suppress(ValueError):
        while at < len(text.rstrip()):
            document, at = decoder.raw_decode(text, at)
            found.append(document)
            at += len(text[at:]) - len(text[at:].lstrip())
    return found


# Callers.


@dataclass(frozen=True)
class Call:
    """One request and what came of it; times are those of the machine's clock."""

    how: str
    began: float
    ended: float
    fault: str | None


@dataclass(frozen=True)
class Callers:
    """A pod that asks `bot` of a service all the time."""

    world: World

    def calls(self, since: float) -> list[Call]:
        """What has come to its end since then."""
        lines = self.world.kube.kubectl("logs", CALLERS).splitlines()
        return [c for c in (Call(**json.loads(line)) for line in lines) if c.ended >= since]


@contextmanager
def calling(world: World, service: str) -> Iterator[Callers]:
    """Callers of the service while the context lasts, the first of them answered."""
    world.apply(_callers(world, service))
    found = Callers(world)
    try:
        wait(lambda: _is_heard(found), 90, "all callers are answered")
        yield found
    finally:
        world.kube.kubectl("delete", f"pod/{CALLERS}", f"configmap/{CALLERS}", "--wait=false")


def _is_heard(found: Callers) -> bool:
    with suppress(CommandFailed):  # its container is not there yet
        answered = {call.how for call in found.calls(0) if call.fault is None}
        return len(answered) == len(callers.TOKENS) * 2
    return False


def _callers(world: World, service: str) -> str:
    program = Path(callers.__file__).read_text(encoding="utf-8")
    url = f"http://{service}"
    container: dict[str, Any] = {
        "name": CALLERS,
        "image": f"{world.place.image_prefix}/serving:dev",
        "command": ["python", "/callers/callers.py", url, "bot"],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - in the pod
        "volumeMounts": [{"name": "program", "mountPath": "/callers"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CALLERS},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "program", "configMap": {"name": CALLERS}}],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CALLERS},
        "data": {"callers.py": program},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [config_map, pod]})
