"""The operator as a local process against a real API server, in a namespace of its own.

Pods are not run: they ask for a node that does not exist, and the test writes into their status
what a kubelet would. Everything else is real: admission, Jobs, garbage collection, watches.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tests.builders import Manifest
from tests.registries import free_port

from trimtab_api import names
from trimtab_api.model import ApiModel
from trimtab_local.layout import layout_from

T = TypeVar("T")
NOWHERE = {"trimtab.dev/nowhere": "true"}
# What the node says of an image that was loaded into it.
IMAGE_ID = "sha256:" + "f" * 64
PLURALS = {
    "Dataset": "datasets",
    "FineTuneJob": "finetunejobs",
    "ModelVersion": "modelversions",
    "InferenceService": "inferenceservices",
    "Decision": "decisions",
}
ROOT = Path(__file__).resolve().parents[1]
PYTHONPATH = os.pathsep.join(str(ROOT / part) for part in ("crds", "operator"))


def eventually(probe: Callable[[], T], seconds: float = 30, what: str = "") -> T:
    """What the probe returns once it is true; AssertionErrors of the last try are shown."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = probe()
            if found or time.monotonic() > deadline:
                assert found, what or "it never became true"
                return found
        except (AssertionError, ApiException):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextmanager
def alone(server: "Server") -> Iterator[None]:
    """No installed operator answers for the tests' objects; one that a demo left here goes on afterwards.

    Two operators with different settings would write against each other and never rest.
    """
    apps = client.AppsV1Api(server.connection)
    found = apps.list_deployment_for_all_namespaces(
        label_selector=f"{names.LABEL_COMPONENT}=operator"
    ).items
    paused = [(d.metadata.name, d.metadata.namespace, d.spec.replicas) for d in found]
    for name, namespace, _ in paused:
        apps.patch_namespaced_deployment_scale(name, namespace, {"spec": {"replicas": 0}})
    eventually(
        lambda: (
            not server.core.list_pod_for_all_namespaces(
                label_selector=f"{names.LABEL_COMPONENT}=operator"
            ).items
        ),
        seconds=60,
        what="the installed operator did not end",
    )
    try:
        yield
    finally:
        for name, namespace, replicas in paused:
            apps.patch_namespaced_deployment_scale(
                name, namespace, {"spec": {"replicas": replicas}}
            )


@contextmanager
def server_alone() -> Iterator["Server"]:
    """The cluster's API server, a namespace of the test's own on it, and no other operator."""
    kubeconfig = os.environ.get("KUBECONFIG") or str(layout_from(os.environ).kubeconfig)
    if not Path(kubeconfig).exists():
        pytest.fail("there is no cluster: make cluster-up")
    server = Server(kubeconfig)
    try:
        with alone(server):
            yield server
    finally:
        server.close()


class Server:
    """A real API server, as far as the operator's tests ask it."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        connection = config.new_client_from_config(kubeconfig)
        self.connection = connection
        self.objects = client.CustomObjectsApi(connection)
        self.core = client.CoreV1Api(connection)
        self.batch = client.BatchV1Api(connection)
        self.coordination = client.CoordinationV1Api(connection)
        self.rbac = client.RbacAuthorizationV1Api(connection)
        self.namespace = f"operator-{uuid.uuid4().hex[:6]}"
        meta = {
            "name": self.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }
        self.core.create_namespace({"metadata": meta})

    def close(self) -> None:
        """Leave nothing behind."""
        self.core.delete_namespace(self.namespace)
        self.connection.close()

    def create(self, manifest: Manifest) -> None:
        """Create one of our objects in the test's namespace."""
        self.objects.create_namespaced_custom_object(
            **self._place(manifest["kind"]),
            body={**manifest, "metadata": {**manifest["metadata"], "namespace": self.namespace}},
        )

    def change(self, kind: str, name: str, changes: Manifest) -> None:
        """Merge changes into one of our objects."""
        self.objects.patch_namespaced_custom_object(
            **self._place(kind),
            name=name,
            body=changes,
            _content_type="application/merge-patch+json",
        )

    def delete(self, kind: str, name: str) -> None:
        """Delete one of our objects."""
        self.objects.delete_namespaced_custom_object(**self._place(kind), name=name)

    def clear(self, *kinds: str) -> None:
        """Delete all objects of these kinds, and see that nothing of theirs is left behind.

        A pod that is on its way out may take its grace period, which is minutes for a gateway.
        """
        for kind in kinds:
            for item in self.objects.list_namespaced_custom_object(**self._place(kind))["items"]:
                self.delete(kind, item["metadata"]["name"])
        eventually(lambda: not self._staying(), seconds=60, what="children are left behind")

    def _staying(self) -> list[str]:
        pods = self.core.list_namespaced_pod(self.namespace).items
        ending = {f"Pod/{p.metadata.name}" for p in pods if p.metadata.deletion_timestamp}
        return [child for child in self.children() if child not in ending]

    def get(self, kind: str, name: str) -> Manifest:
        """One of our objects, or an empty one."""
        try:
            found: Manifest = self.objects.get_namespaced_custom_object(
                **self._place(kind), name=name
            )
        except ApiException as error:
            if error.status != 404:
                raise
            return {}
        return found

    def condition(self, kind: str, name: str, wanted: str) -> Manifest:
        """One condition of one of our objects, or an empty one."""
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == wanted), {})

    def says(self, kind: str, name: str, wanted: str, reason: str) -> str:
        """The message of a condition, once it has this reason."""

        def has_reason() -> bool:
            return bool(self.condition(kind, name, wanted).get("reason") == reason)

        eventually(has_reason, what=f"{wanted} of {name} never said {reason}")
        return str(self.condition(kind, name, wanted)["message"])

    def is_true(self, kind: str, name: str, wanted: str) -> bool:
        """Whether a condition holds."""
        return bool(self.condition(kind, name, wanted).get("status") == "True")

    def jobs(self, stage: str) -> list[Any]:
        """Jobs of a stage."""
        selector = f"{names.LABEL_COMPONENT}={stage}"
        found = self.batch.list_namespaced_job(self.namespace, label_selector=selector)
        return list(found.items)

    def pods(self, stage: str) -> list[Any]:
        """Pods of a stage that are not on their way out."""
        selector = f"{names.LABEL_COMPONENT}={stage}"
        found = self.core.list_namespaced_pod(self.namespace, label_selector=selector)
        return [p for p in found.items if p.metadata.deletion_timestamp is None]

    def children(self, job: str | None = None) -> list[str]:
        """Everything that carries our label (or that of one job), by kind and name."""
        selector = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
        if job:
            selector = f"{names.LABEL_JOB}={job}"
        lists: Mapping[str, Callable[..., Any]] = {
            "Job": self.batch.list_namespaced_job,
            "Pod": self.core.list_namespaced_pod,
            "ConfigMap": self.core.list_namespaced_config_map,
            "PersistentVolumeClaim": self.core.list_namespaced_persistent_volume_claim,
        }
        return [
            f"{kind}/{item.metadata.name}"
            for kind, read in lists.items()
            for item in read(self.namespace, label_selector=selector).items
        ]

    def events(self, name: str) -> list[str]:
        """Reasons of the Events about an object of ours."""
        found = self.core.list_namespaced_event(
            self.namespace, field_selector=f"involvedObject.name={name}"
        )
        return [e.reason for e in found.items]

    # --- what a kubelet would say ---

    def pod_ends(self, stage: str, result: ApiModel | None, code: int = 0, **ended: Any) -> None:
        """The stage's pod ends with this result in its termination message."""
        pod = self._waiting_pod(stage)
        message = "" if result is None else result.model_dump_json(by_alias=True, exclude_none=True)
        terminated = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": message,
            **ended,
        }
        self._pod_status(
            pod.metadata.name,
            {
                "phase": "Succeeded" if code == 0 else "Failed",
                "containerStatuses": [_container(pod, {"terminated": terminated})],
            },
        )

    def pod_waits(self, stage: str, reason: str, message: str) -> None:
        """The stage's pod waits for something."""
        pod = self._waiting_pod(stage)
        waiting = {"waiting": {"reason": reason, "message": message}}
        self._pod_status(
            pod.metadata.name, {"phase": "Pending", "containerStatuses": [_container(pod, waiting)]}
        )

    def _waiting_pod(self, stage: str) -> Any:
        def waiting() -> list[Any]:
            return [p for p in self.pods(stage) if p.status.phase == "Pending"]

        return eventually(waiting, what=f"no pod of {stage}")[0]

    def _pod_status(self, name: str, status: Manifest) -> None:
        self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status})

    def _place(self, kind: str) -> dict[str, str]:
        return {
            "group": names.GROUP,
            "version": names.VERSION,
            "namespace": self.namespace,
            "plural": PLURALS[kind],
        }


def _container(pod: Any, state: Manifest) -> Manifest:
    container = pod.spec.containers[0]
    return {
        "name": container.name,
        "image": container.image,
        "imageID": IMAGE_ID if "terminated" in state else "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


@contextmanager
def running_operator(server: Server, folder: Path, registry: str) -> Iterator["OperatorProcess"]:
    """An operator that watches the test's namespace and keeps models in this registry."""
    process = OperatorProcess(server, folder, free_port(), registry)
    process.start()
    try:
        yield process
    finally:
        process.stop()


class OperatorProcess:
    """`python -m trimtab_operator`, watching one namespace."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        port: int,
        registry: str,
        *,
        kubeconfig: str = "",
        **settings: Any,
    ) -> None:
        self._server = server
        self._port = port
        self._log = folder / "operator.log"
        self._settings = folder / "operator.json"
        self._kubeconfig = kubeconfig or server.kubeconfig
        self._settings.write_text(
            json.dumps(
                {
                    "images": {
                        "pipelines": "trimtab/pipelines:dev",
                        "serving": "trimtab/serving:dev",
                        "engine": "trimtab/engine-cpu:dev",
                    },
                    "podSecurityContext": {"runAsUser": 1234567, "fsGroup": 0},
                    "registry": {"prefix": registry, "plainHttp": True},
                    "watchNamespaces": [server.namespace],
                    # The next one need not wait until the lease of one that was killed has lapsed.
                    "leaderElection": {"enabled": False},
                    **settings,
                }
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it could lead, or does."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "trimtab_operator"),
                    *("--settings", str(self._settings), "--port", str(self._port)),
                ],
                env={**os.environ, "KUBECONFIG": self._kubeconfig, "PYTHONPATH": PYTHONPATH},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(self.is_ready)
        except AssertionError as error:
            self.kill()
            message = f"the operator is not ready:\n{self.log[-4000:]}"
            raise AssertionError(message) from error

    def is_ready(self) -> bool:
        """What a kubelet would ask."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self._port}/readyz").status_code == 200
        return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        total = 0.0
        for line in httpx.get(f"http://127.0.0.1:{self._port}/metrics").text.splitlines():
            if line.startswith((f"{name}{{", f"{name} ")) and all(
                f'{k}="{v}"' in line for k, v in labels.items()
            ):
                total += float(line.rpartition(" ")[2])
        return total

    @property
    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def send(self, how: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(how)

    def exit_code(self, seconds: float) -> int:
        """How it ends by itself."""
        assert self._process is not None
        code = self._process.wait(timeout=seconds)
        self._process = None
        return code

    def kill(self) -> None:
        """As a node that loses power would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As a kubelet would."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None
