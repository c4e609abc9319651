"""What the chart renders, and which values it refuses; needs Helm, but no cluster."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from generation.manifests import KINDS, crd
from trimtab_local.layout import layout_from
from trimtab_operator.adapters.kinds import CHILDREN, EXPOSURES, OURS, RAY_JOB, Kind
from trimtab_operator.settings import Settings

CHART = Path(__file__).resolve().parents[2] / "charts" / "trimtab"
LOCAL = CHART / "ci" / "local-values.yaml"
MUTATING = "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
POD_MONITOR = "--api-versions=monitoring.coreos.com/v1/PodMonitor"
Manifest = dict[str, Any]


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(layout_from(os.environ).programs / "helm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def rendered(*flags: str) -> list[Manifest]:
    done = helm(
        "template", "trimtab", str(CHART), "--namespace=trimtab-system", f"--values={LOCAL}", *flags
    )
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def settings(*flags: str) -> Settings:
    config_map = of_kind(rendered(*flags), "ConfigMap")[0]
    return Settings.model_validate_json(config_map["data"]["operator.json"])


def named(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def rules(*flags: str) -> list[Manifest]:
    roles = of_kind(rendered(*flags), "ClusterRole")
    found: list[Manifest] = next(
        r["rules"] for r in roles if r["metadata"]["name"].endswith("-operator")
    )
    return found


def test_lint_has_nothing_to_say() -> None:
    done = helm("lint", "--strict", str(CHART), f"--values={LOCAL}")
    assert done.returncode == 0, done.stdout + done.stderr


REFUSED = {
    "no registry": (["--set", "registry.prefix="], "/registry/prefix"),
    "a registry with a scheme": (
        ["--set", "registry.prefix=oci://registry.example.com/a"],
        "/registry/prefix",
    ),
    "a registry without a path": (
        ["--set", "registry.prefix=registry.example.com"],
        "/registry/prefix",
    ),
    "a value that does not exist": (["--set", "registry.prefx=a"], "prefx"),
    "an unknown kind of exposure": (["--set", "exposure.kind=LoadBalancer"], "/exposure/kind"),
    "an HTTPRoute without a Gateway": (["--set", "exposure.kind=HTTPRoute"], "/exposure/parentRef"),
    "one host for all services": (
        ["--set", "exposure.kind=Ingress,exposure.host=models.example.com"],
        "/exposure/host",
    ),
    "an unknown pull policy": (["--set", "images.pullPolicy=Sometimes"], "/images/pullPolicy"),
    "a flag in words": (["--set-string", "crds.install=yes"], "/crds/install"),
    "a namespace that is no label": (["--set", "watchNamespaces={Team_A}"], "/watchNamespaces/0"),
    "an engine argument that is a value": (
        ["--set", "engine.extraArguments={true}"],
        "/engine/extraArguments/0",
    ),
    "somebody else's account without a name": (
        ["--set", "serviceAccount.create=false"],
        "/serviceAccount/name",
    ),
    "a port that is none": (
        ["--set", "networkPolicy.apiServerPorts={70000}"],
        "/networkPolicy/apiServerPorts/0",
    ),
    "a token for a Prometheus without TLS": (
        ["--set", "prometheus.bearerToken=ServiceAccount"],
        "/prometheus/url",
    ),
    "a token from a Secret without a name": (
        ["--set", "prometheus.bearerToken=Secret,prometheus.url=https://thanos.example.com"],
        "/prometheus/secretName",
    ),
    "a time before the retirement": (
        ["--set", "retention.deleteRetiredAfterSeconds=-1"],
        "/retention/deleteRetiredAfterSeconds",
    ),
    "no replica": (["--set", "operator.replicas=0"], "/operator/replicas"),
    "a resync all the time": (["--set", "operator.resyncSeconds=0"], "/operator/resyncSeconds"),
    "an unknown log level": (["--set", "operator.logLevel=LOUD"], "/operator/logLevel"),
}


@pytest.mark.parametrize(("flags", "place"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_value_is_refused_with_its_place(flags: list[str], place: str) -> None:
    done = helm("template", "trimtab", str(CHART), f"--values={LOCAL}", *flags)
    assert done.returncode != 0
    # Helm 3 writes places with dots, Helm 4 with slashes.
    assert place.strip("/").replace("/", ".") in done.stderr.replace("/", "."), done.stderr


def test_the_chart_asks_for_a_registry() -> None:
    done = helm("template", "trimtab", str(CHART))
    assert done.returncode != 0
    assert "prefix" in done.stderr


def test_the_operator_can_read_its_settings() -> None:
    assert settings().model_dump(mode="json", exclude={"exposure", "pod_security_context"}) == {
        "images": {
            "pipelines": "localhost/trimtab/pipelines:dev",
            "serving": "localhost/trimtab/serving:dev",
            "engine": "localhost/trimtab/engine-cpu:dev",
        },
        "imagePullPolicy": "IfNotPresent",
        "registry": {
            "prefix": "registry.internal:5000/trimtab",
            "plainHttp": True,
            "credentialsSecret": "",
        },
        "engine": {"extraArguments": ["--enforce-eager"], "environment": {}},
        "network": {"operatorNamespace": "trimtab-system", "prometheusNamespace": ""},
        "leaderElection": {
            "enabled": True,
            "namespace": "trimtab-system",
            "lease": "trimtab-operator",
        },
        "account": "system:serviceaccount:trimtab-system:trimtab-operator",
        "prometheus": {
            "url": "http://prometheus.internal:9090",
            "tokenFile": "",
            "caFile": "",
        },
        "ray": {"enabled": False},
        "retention": {"deleteRetiredAfterSeconds": 0},
        "resyncSeconds": 600,
        "profiling": False,
        "watchNamespaces": [],
    }


def test_settings_name_every_value_that_the_operator_knows() -> None:
    config_map = of_kind(rendered(), "ConfigMap")[0]
    written = json.loads(config_map["data"]["operator.json"])
    assert set(written) == set(settings().model_dump())


def test_a_gpu_engine_is_not_made_eager() -> None:
    read = settings("--set=images.engine=vllm/vllm-openai:v1,engine.extraArguments={--seed=1}")
    assert read.images.engine == "vllm/vllm-openai:v1"
    assert read.engine.extra_arguments == ["--seed=1"]


THANOS = "prometheus.url=https://thanos-querier.openshift-monitoring.svc:9091"
SERVICE_CA = "prometheus.ca.configMap=openshift-service-ca.crt,prometheus.ca.key=service-ca.crt"


def operator_pod(*flags: str) -> tuple[dict[str, Manifest], dict[str, str]]:
    """Volumes by name, and where they are mounted."""
    (deployment,) = of_kind(rendered(*flags), "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    mounts = spec["containers"][0]["volumeMounts"]
    return {v["name"]: v for v in spec["volumes"]}, {m["name"]: m["mountPath"] for m in mounts}


def test_prometheus_is_asked_as_the_operators_account_and_held_against_a_given_ca() -> None:
    flags = f"--set={THANOS},prometheus.bearerToken=ServiceAccount,{SERVICE_CA}"
    read = settings(flags).prometheus
    assert read.token_file == "/var/run/secrets/kubernetes.io/serviceaccount/token"
    volumes, mounts = operator_pod(flags)
    (item,) = volumes["prometheus-ca"]["configMap"]["items"]
    assert read.ca_file == f"{mounts['prometheus-ca']}/{item['path']}"
    assert "prometheus" not in volumes


def test_prometheus_is_asked_with_the_token_of_a_secret() -> None:
    flags = f"--set={THANOS},prometheus.bearerToken=Secret,prometheus.secretName=thanos"
    volumes, mounts = operator_pod(flags)
    assert volumes["prometheus"]["secret"]["secretName"] == "thanos"
    assert settings(flags).prometheus.token_file == f"{mounts['prometheus']}/token"


def test_without_a_token_nothing_is_mounted_for_prometheus() -> None:
    volumes, _ = operator_pod()
    assert not {"prometheus", "prometheus-ca"} & volumes.keys()


def test_other_settings_are_another_pod() -> None:
    def checksum(*flags: str) -> str:
        (deployment,) = of_kind(rendered(*flags), "Deployment")
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert checksum() == checksum()
    assert checksum() != checksum("--set=registry.plainHttp=false")


@pytest.mark.parametrize("exposure", ["None", "Ingress", "Route"])
def test_the_operator_asks_for_no_more_than_it_uses(exposure: str) -> None:
    granted = rules(f"--set=exposure.kind={exposure}")
    words = [word for rule in granted for part in rule.values() for word in part]
    assert not {"*", "secrets", "impersonate", "bind", "escalate"} & set(words)
    resources = {resource.partition("/")[0] for rule in granted for resource in rule["resources"]}
    kinds = (*OURS, *CHILDREN, *EXPOSURES.values())
    assert resources == {kind.plural for kind in kinds} | {"events", "namespaces"}


@pytest.mark.parametrize("exposure", ["None", "Ingress", "Route"])
def test_one_way_in_is_made_and_what_is_left_of_the_others_can_only_be_taken_away(
    exposure: str,
) -> None:
    granted = rules(f"--set=exposure.kind={exposure}")
    made, others = {"list", "watch", "create", "patch"}, {"list", "delete"}
    for name, kind in EXPOSURES.items():
        assert verbs(granted, kind) == (made if name == exposure else others)


def test_ray_jobs_are_made_where_kuberay_is() -> None:
    flags = ("--set=ray.enabled=true", "--api-versions=ray.io/v1/RayJob")
    assert settings(*flags).ray.enabled
    assert verbs(rules(*flags), RAY_JOB) == {"get", "list", "watch", "create", "delete"}
    assert not verbs(rules(), RAY_JOB)
    done = helm("template", "trimtab", str(CHART), "--set=registry.prefix=a/b", flags[0])
    assert "install KubeRay first" in done.stderr


def verbs(granted: list[Manifest], kind: Kind) -> set[str]:
    group = kind.api_version.rpartition("/")[0]
    matching = [
        rule for rule in granted if group in rule["apiGroups"] and kind.plural in rule["resources"]
    ]
    return {verb for rule in matching for verb in rule["verbs"]}


@pytest.mark.parametrize("kind", [*OURS, *CHILDREN], ids=lambda kind: kind.name)
def test_the_operator_may_follow_every_kind_that_it_watches(kind: Kind) -> None:
    assert {"list", "watch"} <= verbs(rules(), kind)


def test_only_watched_namespaces_are_opened_to_the_operator() -> None:
    manifests = rendered("--set=watchNamespaces={a,b}")
    # Namespaces belong to no namespace: those two are opened by their names.
    (wide,) = of_kind(manifests, "ClusterRoleBinding")
    (role,) = (m for m in of_kind(manifests, "ClusterRole") if named(m) == wide["roleRef"]["name"])
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["namespaces"],
            "resourceNames": ["a", "b"],
            "verbs": ["list", "watch"],
        }
    ]
    assert not [r for r in rules("--set=watchNamespaces={a,b}") if "namespaces" in r["resources"]]
    bound = {
        b["metadata"]["namespace"]
        for b in of_kind(manifests, "RoleBinding")
        if b["roleRef"]["kind"] == "ClusterRole"
    }
    assert bound == {"a", "b"}
    assert settings("--set=watchNamespaces={a,b}").watch_namespaces == ["a", "b"]


def test_the_lease_is_one_and_in_the_operators_own_namespace() -> None:
    (role,) = of_kind(rendered(), "Role")
    assert role["metadata"]["namespace"] == settings().leader_election.namespace
    made, held = role["rules"]
    assert (made["resources"], made["verbs"]) == (["leases"], ["create"])
    assert (held["resources"], held["verbs"]) == (["leases"], ["get", "update"])
    assert held["resourceNames"] == [settings().leader_election.lease]
    (bound,) = (b for b in of_kind(rendered(), "RoleBinding") if b["roleRef"]["kind"] == "Role")
    assert bound["roleRef"]["name"] == role["metadata"]["name"]
    assert not [r for r in rules() if "leases" in r["resources"]]


def test_replicas_keep_apart_where_they_can_and_are_evicted_one_by_one() -> None:
    (deployment,) = of_kind(rendered(), "Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spec = deployment["spec"]["template"]["spec"]
    (preferred,) = spec["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert preferred["podAffinityTerm"]["labelSelector"]["matchLabels"] == labels
    (budget,) = of_kind(rendered(), "PodDisruptionBudget")
    # A number that must stay would make the only replica of a small install hold up every drain.
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


def test_a_users_own_affinity_replaces_ours() -> None:
    (deployment,) = of_kind(rendered("--set=operator.affinity.nodeAffinity.a=b"), "Deployment")
    assert deployment["spec"]["template"]["spec"]["affinity"] == {"nodeAffinity": {"a": "b"}}


def pods(manifests: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] in {"Deployment", "Job"}]


def test_every_pod_is_restricted_and_has_no_fixed_user() -> None:
    specs = pods(rendered())
    assert len(specs) == 2
    for spec in specs:
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }


def test_a_user_may_be_fixed() -> None:
    for spec in pods(rendered("--set=podSecurityContext.runAsUser=1234")):
        assert spec["securityContext"]["runAsUser"] == 1234
    assert settings("--set=podSecurityContext.runAsUser=1234").pod_security_context == {
        "runAsUser": 1234
    }


def test_credentials_are_mounted_and_never_read_by_name() -> None:
    (deployment,) = of_kind(rendered("--set=registry.credentialsSecret=pull"), "Deployment")
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["registry"]["secret"] == {"secretName": "pull", "optional": True}


def test_definitions_are_upgraded_and_kept() -> None:
    found = {m["metadata"]["name"]: m for m in of_kind(rendered(), "CustomResourceDefinition")}
    for kind in KINDS:
        wanted = crd(kind)
        there = found[wanted["metadata"]["name"]]
        assert there["spec"] == wanted["spec"]
        assert there["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert of_kind(rendered("--set=crds.install=false"), "CustomResourceDefinition") == []
    for definition in of_kind(rendered("--set=crds.keep=false"), "CustomResourceDefinition"):
        assert "annotations" not in definition["metadata"]


def test_monitors_exist_where_their_kind_does() -> None:
    assert of_kind(rendered(), "PodMonitor") == []
    found = of_kind(rendered(POD_MONITOR, "--set=watchNamespaces={a}"), "PodMonitor")
    components = {
        m["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] for m in found
    }
    assert components == {"operator", "engine", "gateway", "train"}
    engine = next(m for m in found if m["metadata"]["name"] == "trimtab-engine")
    assert engine["spec"]["namespaceSelector"] == {"matchNames": ["a"]}


def test_policies_open_what_the_operator_needs() -> None:
    (policy,) = of_kind(rendered(), "NetworkPolicy")
    opened = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert opened == {53, 5353, 443, 6443, 5000, 8000, 8080, 8081, 9090}
    assert of_kind(rendered("--set=networkPolicy.enabled=false"), "NetworkPolicy") == []
    assert settings("--set=networkPolicy.enabled=false").network.operator_namespace == ""


def test_names_of_cluster_wide_objects_belong_to_the_release() -> None:
    wide = [m for m in rendered() if m["kind"] in {"ClusterRole", "ClusterRoleBinding"}]
    assert {m["metadata"]["name"].startswith("trimtab-system-trimtab-") for m in wide} == {True}


def test_nobody_proves_a_model_by_writing_its_status() -> None:
    for role in of_kind(rendered(), "ClusterRole"):
        if "edit" in role["metadata"]["name"] or "view" in role["metadata"]["name"]:
            assert not [
                r for rule in role["rules"] for r in rule["resources"] if r.endswith("/status")
            ]


def test_every_policy_is_bound_and_lets_nothing_through_when_it_cannot_tell() -> None:
    policies, bindings = of_kind(rendered(), POLICY), of_kind(rendered(), BINDING)
    assert {named(p) for p in policies} == {b["spec"]["policyName"] for b in bindings}
    assert {p["spec"]["failurePolicy"] for p in policies} == {"Fail"}
    assert {tuple(b["spec"]["validationActions"]) for b in bindings} == {("Deny",)}
    assert of_kind(rendered("--set=admission.enabled=false"), POLICY) == []


def test_a_policy_that_looks_at_versions_looks_at_all_of_them() -> None:
    looking = {named(p) for p in of_kind(rendered(), POLICY) if "paramKind" in p["spec"]}
    assert len(looking) == 3
    for binding in of_kind(rendered(), BINDING):
        given = {"selector": {}, "parameterNotFoundAction": "Allow"}
        wanted = given if named(binding) in looking else None
        assert binding["spec"].get("paramRef") == wanted


def test_policies_hold_where_the_operator_works() -> None:
    flags = (MUTATING, "--set=watchNamespaces={a,b}")
    bindings = of_kind(rendered(*flags), BINDING)
    bindings += of_kind(rendered(*flags), "MutatingAdmissionPolicyBinding")
    assert len(bindings) == 6
    for binding in bindings:
        (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert (expression["key"], expression["values"]) == (
            "kubernetes.io/metadata.name",
            ["a", "b"],
        )


def test_authors_are_written_down_where_the_cluster_can() -> None:
    assert of_kind(rendered(), "MutatingAdmissionPolicy") == []
    assert len(of_kind(rendered(MUTATING), "MutatingAdmissionPolicy")) == 1


def test_who_may_decide() -> None:
    def may(suffix: str, *flags: str) -> set[str]:
        (role,) = (r for r in of_kind(rendered(*flags), "ClusterRole") if named(r).endswith(suffix))
        found = [r for r in role["rules"] if {"modelversions", "decisions"} & set(r["resources"])]
        return {f"{verb} {what}" for r in found for verb in r["verbs"] for what in r["resources"]}

    approving = {"approve modelversions", "revoke modelversions"}
    assert approving | {"create decisions"} <= may("-approver")
    assert {"create decisions", "retire modelversions"} <= may("-edit")
    assert not approving & may("-edit")
    changing = {f"{verb} decisions" for verb in ("update", "patch", "delete", "deletecollection")}
    assert not changing & (may("-edit") | may("-approver") | may("-view"))


def test_admins_approve_only_where_that_is_wished() -> None:
    def labels(*flags: str) -> Manifest:
        roles = of_kind(rendered(*flags), "ClusterRole")
        (role,) = (r for r in roles if named(r).endswith("-approver"))
        found: Manifest = role["metadata"]["labels"]
        return found

    aggregated = "rbac.authorization.k8s.io/aggregate-to-admin"
    assert aggregated not in labels()
    assert labels("--set=rbac.adminsApprove=true")[aggregated] == "true"
