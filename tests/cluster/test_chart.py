"""The chart on the local cluster: installed, upgraded, rolled back and uninstalled.

The release has a name and a namespace of its own and works in that namespace alone, so that it meets no other Trimtab
on the cluster. The CRDs are left to whoever has installed them.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.quickstart.kube import is_too_early
from tests.builders import full_version, with_metadata

from trimtab_local.layout import layout_from

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "trimtab"
LAYOUT = layout_from(os.environ)
RELEASE = f"chart-{uuid.uuid4().hex[:6]}"
OPERATOR = f"{RELEASE}-trimtab-operator"
DEADLINE_SECONDS = 90.0
Manifest = dict[str, Any]


def run(program: str, *arguments: str, text: str = "") -> str:
    environment = {**os.environ, "KUBECONFIG": str(LAYOUT.kubeconfig)}
    command = [str(LAYOUT.programs / program), "--namespace", RELEASE, *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kubectl(*arguments: str, text: str = "") -> str:
    return run("kubectl", *arguments, text=text)


def get(kind: str, *arguments: str) -> Manifest:
    found: Manifest = json.loads(kubectl("get", kind, *arguments, "-o", "json"))
    return found


def helm(*arguments: str) -> str:
    return run("helm", *arguments)


def upgraded(*flags: str) -> None:
    helm(
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        f"--values={CHART / 'ci' / 'local-values.yaml'}",
        f"--set=watchNamespaces={{{RELEASE}}}",
        "--set=crds.install=false",
        "--wait",
        "--timeout=3m",
        *flags,
    )


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace that takes restricted pods only, and the CRDs."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        kubectl(
            "apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", str(path)
        )
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": RELEASE, "labels": labels},
    }
    kubectl("apply", "-f", "-", text=json.dumps(made))
    yield RELEASE
    kubectl("delete", "namespace", RELEASE, "--wait=false")


@pytest.fixture(scope="module")
def installed(namespace: str) -> str:
    upgraded()
    return namespace


def operator_pods() -> dict[str, Manifest]:
    """The operator's two pods that are not on their way out, by uid."""
    pods = get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    found = {p["metadata"]["uid"]: p for p in pods if "deletionTimestamp" not in p["metadata"]}
    assert len(found) == 2
    return found


def eventually(what: str, holds: Any) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def applied(manifest: Any) -> bool:
    """Whether it is there; policies learn of a new kind a moment after the API server does."""
    try:
        kubectl("apply", "-f", "-", text=json.dumps(manifest))
    except AssertionError as refusal:
        if not is_too_early(str(refusal)):
            raise
        return False
    return True


def may(verb: str, resource: str, namespace: str, *flags: str) -> bool:
    account = f"system:serviceaccount:{RELEASE}:{OPERATOR}"
    command = [str(LAYOUT.programs / "kubectl"), f"--kubeconfig={LAYOUT.kubeconfig}"]
    asked = ["auth", "can-i", verb, resource, f"--as={account}", f"--namespace={namespace}"]
    done = subprocess.run([*command, *asked, *flags], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "yes"


def test_it_becomes_ready_and_works(installed: str) -> None:
    for pod in operator_pods().values():
        assert pod["status"]["containerStatuses"][0]["ready"]
    version = full_version("observed", installed)
    eventually("the API server's policies know a new kind", lambda: applied(version))
    # The artifact does not exist; that the operator says so shows that its rights and settings are enough for it.
    eventually(
        "the operator looks at an object",
        lambda: get("mv", "observed").get("status", {}).get("conditions"),
    )
    kubectl("delete", "mv", "observed")


# What comes after a slash is a subresource here; kubectl would take it for an object's name.
RIGHTS = {
    "list its kinds": ("list", "finetunejobs.trimtab.dev", True),
    "write their status": ("patch", "finetunejobs.trimtab.dev/status", True),
    "not write their spec": ("patch", "finetunejobs.trimtab.dev", False),
    "create jobs": ("create", "jobs.batch", True),
    "not read Secrets": ("get", "secrets", False),
    "not list Secrets": ("list", "secrets", False),
    "not enter pods": ("create", "pods/exec", False),
    "not delete versions": ("delete", "modelversions.trimtab.dev", False),
    "say what came of decisions": ("patch", "decisions.trimtab.dev/status", True),
    # One action alone, which a policy sees to.
    "put in quarantine": ("create", "decisions.trimtab.dev", True),
    "not decide for people": ("approve", "modelversions.trimtab.dev", False),
    "not change decisions": ("patch", "decisions.trimtab.dev", False),
    "not take decisions away": ("delete", "decisions.trimtab.dev", False),
    "not look at other namespaces": ("list", "namespaces", False),
}


@pytest.mark.parametrize(
    ("verb", "resource", "wanted"), RIGHTS.values(), ids=[f"it may {name}" for name in RIGHTS]
)
def test_its_rights(installed: str, verb: str, resource: str, wanted: bool) -> None:
    kind, _, part = resource.partition("/")
    flags = [f"--subresource={part}"] if part else []
    assert may(verb, kind, installed, *flags) is wanted
    assert may(verb, kind, "kube-system", *flags) is False


def test_the_lease_is_its_own_in_its_own_namespace_alone(installed: str) -> None:
    lease = f"leases.coordination.k8s.io/{OPERATOR}"
    assert may("update", lease, installed)
    assert may("get", lease, installed)
    assert not may("update", "leases.coordination.k8s.io/another", installed)
    assert not may("delete", lease, installed)
    assert not may("update", lease, "kube-system")


def holder() -> str:
    """Name of the pod that leads, or nothing."""
    lease = get("lease", OPERATOR)["spec"]
    return str(lease.get("holderIdentity", "")).rpartition("_")[0]


def test_when_the_leaders_pod_is_deleted_another_one_leads_and_works(installed: str) -> None:
    eventually("a pod leads", holder)
    before = holder()
    kubectl("delete", "pod", before, "--wait=false")
    eventually("another pod leads", lambda: holder() not in {"", before})
    version = full_version("later", installed)
    kubectl("apply", "-f", "-", text=json.dumps(version))
    eventually(
        "the new leader looks at an object",
        lambda: get("mv", "later").get("status", {}).get("conditions"),
    )
    kubectl("delete", "mv", "later")
    kubectl("rollout", "status", f"deployment/{OPERATOR}", "--timeout=60s")


def test_an_upgrade_with_other_settings_is_other_pods_and_a_rollback_brings_them_back(
    installed: str,
) -> None:
    before = set(operator_pods())
    # A user id that no image knows, as OpenShift gives them.
    upgraded("--set=engine.environment.CHANGED=yes,podSecurityContext.runAsUser=1000680000")
    assert "CHANGED" in get("configmap", OPERATOR)["data"]["operator.json"]
    between = operator_pods()
    assert before.isdisjoint(between)
    users = {pod["spec"]["securityContext"]["runAsUser"] for pod in between.values()}
    assert users == {1000680000}
    helm("rollback", RELEASE, "--wait", "--timeout=3m")
    assert "CHANGED" not in get("configmap", OPERATOR)["data"]["operator.json"]
    assert set(between).isdisjoint(operator_pods())


def test_an_upgrade_that_changes_nothing_keeps_the_pods(installed: str) -> None:
    before = set(operator_pods())
    upgraded()
    assert set(operator_pods()) == before


def test_an_uninstall_keeps_objects_and_strands_none(installed: str) -> None:
    version = with_metadata(full_version("kept", installed), finalizers=["trimtab.dev/tests"])
    kubectl("apply", "-f", "-", text=json.dumps(version))
    helm("uninstall", RELEASE, "--wait", "--timeout=3m")
    assert "finalizers" not in get("mv", "kept")["metadata"]
    left = kubectl(
        "get",
        "all,configmap,serviceaccount,networkpolicy",
        "-l",
        f"app.kubernetes.io/instance={RELEASE}",
        "-o",
        "name",
    )
    assert left == ""
    roles = kubectl(
        "get",
        "clusterrole,clusterrolebinding,validatingadmissionpolicy,mutatingadmissionpolicy",
        "-l",
        f"app.kubernetes.io/instance={RELEASE}",
        "-o",
        "name",
    )
    assert roles == ""
    kubectl("delete", "mv", "kept", "--timeout=30s")
