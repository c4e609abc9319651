"""The local cluster does what a real one does, seen from inside its pods.

One namespace under Pod Security `restricted` holds everything, and every pod
runs under a user id that no image knows: what works here works for Trimtab.
"""

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from trimtab_local import build, imagestore
from trimtab_local.layout import NODE_NAME, Layout, layout_from
from trimtab_local.ociarchive import write_archive

pytestmark = pytest.mark.timeout(300)

LAYOUT = layout_from(os.environ)
NAMESPACE = f"local-cluster-{os.getpid()}"
PROBE = "trimtab.local/probe:1"
PUSHED = f"trimtab-tests/probe-{os.getpid()}"
UID = random.randint(1_000_000_000, 1_999_999_999)  # noqa: S311 - OpenShift deals such numbers out
DEADLINE_SECONDS = 120.0

Manifest = dict[str, Any]


def kubectl(*arguments: str, text: str = "") -> str:
    command = [str(LAYOUT.programs / "kubectl"), f"--kubeconfig={LAYOUT.kubeconfig}", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(*manifests: Manifest) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    kubectl("apply", "-n", NAMESPACE, "-f", "-", text=json.dumps(listed))


def eventually(wanted: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if wanted():
            return True
        time.sleep(0.3)
    return False


def pod(name: str, *words: str, image: str = PROBE, **spec: Any) -> Manifest:
    """A restricted pod that runs the probe; `mounts` and `volumes` go where they belong."""
    container: Manifest = {
        "name": "probe",
        "image": image,
        "args": list(words),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": spec.pop("mounts", []),
    }
    security = {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    shared: Manifest = {"restartPolicy": "Never", "securityContext": security}
    shared["terminationGracePeriodSeconds"] = 1
    shared["containers"] = [container]
    metadata = {"name": name, "labels": {"app": name}, "annotations": spec.pop("annotations", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": shared | spec}


def phase(name: str) -> str:
    return kubectl("get", "pod", name, "-n", NAMESPACE, "-o", "jsonpath={.status.phase}")


def output_of(name: str, *words: str, **spec: Any) -> str:
    """What a pod that runs to its end printed."""
    apply(pod(name, *words, **spec))
    ended = eventually(lambda: phase(name) in {"Succeeded", "Failed"})
    told = kubectl("describe", "pod", name, "-n", NAMESPACE)
    assert ended, told
    printed = kubectl("logs", name, "-n", NAMESPACE)
    assert phase(name) == "Succeeded", f"{printed}\n{told}"
    return printed.strip()


def push(archive: Path, repository: str) -> None:
    """Puts an OCI archive of one image into the registry, under the tag 1."""
    base = f"http://127.0.0.1:{LAYOUT.ports.registry}/v2/{repository}"
    blobs = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            blobs[Path(member.name).name] = file.read()
    listed = json.loads(blobs.pop("index.json"))["manifests"][0]
    manifest = blobs.pop(listed["digest"].removeprefix("sha256:"))
    blobs.pop("oci-layout")
    with httpx.Client(timeout=30) as client:
        for digest, blob in blobs.items():
            place = client.post(f"{base}/blobs/uploads/").headers["Location"]
            client.put(f"{place}&digest=sha256:{digest}", content=blob).raise_for_status()
        headers = {"Content-Type": listed["mediaType"]}
        client.put(f"{base}/manifests/1", content=manifest, headers=headers).raise_for_status()


def service(name: str) -> Manifest:
    ports = [{"port": 80, "targetPort": 8080}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module", autouse=True)
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """The running cluster with the probe's image in it and a namespace for this file."""
    if not LAYOUT.kubeconfig.exists():
        pytest.skip("this is about the local cluster, and there is none: `trimtab-local up`")
    folder = tmp_path_factory.mktemp("probe")
    program = build.build(build.PROBE, LAYOUT, folder / "build.log") / "probe"
    write_archive(program, PROBE, folder / "probe.tar")
    imagestore.load(LAYOUT, folder / "probe.tar")
    push(folder / "probe.tar", PUSHED)
    namespace: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl("apply", "-f", "-", text=json.dumps(namespace))
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE, "--timeout=60s")
    yield LAYOUT
    kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")


@pytest.fixture(scope="module")
def server(layout: Layout) -> str:
    """A pod that serves, behind a service of the same name."""
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    apply(pod("server", "serve", "hello", "there", annotations=annotations), service("server"))
    kubectl("wait", "--for=condition=Ready", "pod/server", "-n", NAMESPACE, "--timeout=120s")
    return "server"


def test_the_node_is_ready_and_says_which_kubernetes_it_is() -> None:
    node = json.loads(kubectl("get", "node", NODE_NAME, "-o", "json"))
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{build.KUBERNETES}"


def test_a_pod_runs_under_the_user_it_was_given() -> None:
    assert output_of("who", "who") == f"uid={UID} gid=0"


def test_a_pod_finds_a_service_by_its_name_and_reaches_it(server: str) -> None:
    assert output_of("by-name", "get", f"http://{server}/short") == "200 hello there"
    full = f"http://{server}.{NAMESPACE}.svc.cluster.local/full"
    assert output_of("by-full-name", "get", full) == "200 hello there"


def test_a_pod_reaches_itself_through_its_service(server: str) -> None:
    # Its bare name is its host name too, and that leads past the service.
    address = f"http://{server}.{NAMESPACE}.svc/"
    answer = kubectl("exec", server, "-n", NAMESPACE, "--", "/probe", "get", address)
    assert answer.strip() == "200 hello there"


def test_an_unknown_name_is_denied_at_once() -> None:
    apply(pod("lost", "lookup", "nowhere.example.org"))
    assert eventually(lambda: phase("lost") == "Failed")
    assert "no such host" in kubectl("logs", "lost", "-n", NAMESPACE)


def test_logs_and_exec_reach_into_a_pod(server: str) -> None:
    said = kubectl("exec", server, "-n", NAMESPACE, "--", "/probe", "echo", "from", "inside")
    assert said == "from inside\n"
    assert "serving on 8080" in kubectl("logs", server, "-n", NAMESPACE)


def test_a_port_of_a_pod_can_be_had_on_the_host(server: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(LAYOUT.programs / "kubectl"), f"--kubeconfig={LAYOUT.kubeconfig}"]
    command += ["port-forward", "-n", NAMESPACE, f"service/{server}", f"{port}:80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            assert "Forwarding from" in forward.stdout.readline()
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=10).text == "hello there\n"
        finally:
            forward.terminate()


def test_a_claim_is_bound_written_by_any_user_kept_for_the_next_pod_and_then_removed() -> None:
    claim: Manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    apply(claim)
    where: Manifest = {
        "mounts": [{"name": "data", "mountPath": "/data"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    output_of("writer", "write", "/data/note", "kept", **json.loads(json.dumps(where)))
    read = output_of("reader", "cat", "/data/note", **json.loads(json.dumps(where)))
    assert read == "kept"
    volume = kubectl("get", "pvc", "data", "-n", NAMESPACE, "-o", "jsonpath={.spec.volumeName}")
    folder = LAYOUT.volumes / volume
    assert (folder / "note").stat().st_uid == UID
    kubectl("delete", "pod", "writer", "reader", "-n", NAMESPACE)
    kubectl("delete", "pvc", "data", "-n", NAMESPACE)
    assert eventually(lambda: not folder.exists())
    assert eventually(lambda: volume not in kubectl("get", "pv", "-o", "name"))


def test_a_pod_that_may_not_be_is_refused() -> None:
    rude = pod("rude", "who", hostNetwork=True)
    command = [str(LAYOUT.programs / "kubectl"), f"--kubeconfig={LAYOUT.kubeconfig}"]
    command += ["apply", "-n", NAMESPACE, "-f", "-"]
    done = subprocess.run(
        command, input=json.dumps(rude), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr


def test_an_image_in_the_registry_runs_and_is_mounted_as_a_volume() -> None:
    image = f"registry.internal:5000/{PUSHED}:1"
    volume = {"name": "model", "image": {"reference": image, "pullPolicy": "Always"}}
    printed = output_of(
        "pulled",
        "sum",
        "/model/probe",
        image=image,
        mounts=[{"name": "model", "mountPath": "/model", "readOnly": True}],
        volumes=[volume],
    )
    program = build.folder_of(build.PROBE, LAYOUT) / "probe"
    assert printed == hashlib.sha256(program.read_bytes()).hexdigest()


def test_a_pod_reaches_the_registry_and_prometheus_by_name() -> None:
    assert output_of("registry", "get", "http://registry.internal:5000/v2/") == "200 {}"
    address = "http://prometheus.internal:9090/-/ready"
    assert output_of("prometheus", "get", address).startswith("200 ")


def test_prometheus_scrapes_a_pod_that_asks_for_it(server: str) -> None:
    query = f'trimtab_probe_up{{namespace="{NAMESPACE}",pod="{server}"}}'
    address = f"http://127.0.0.1:{LAYOUT.ports.prometheus}/api/v1/query"

    def is_scraped() -> bool:
        found = httpx.get(address, params={"query": query}).json()["data"]["result"]
        return [series["value"][1] for series in found] == ["1"]

    assert eventually(is_scraped)


def test_what_runs_is_said_to_be_ready() -> None:
    command = [sys.executable, "-m", "trimtab_local", "status"]
    environment = os.environ | {"PYTHONPATH": str(Path(build.SOURCES))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"export KUBECONFIG={LAYOUT.kubeconfig}" in done.stdout
