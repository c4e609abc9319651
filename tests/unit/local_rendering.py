"""The local cluster's configuration files: what goes in, what comes out."""

import base64
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from trimtab_local import api, identities, render
from trimtab_local.components import Component, components
from trimtab_local.layout import Layout, Ports
from trimtab_local.render import Host

LAYOUT = Layout(home=Path("/state"), cache=Path("/cache"), run=Path("/run/x"))
HOST = Host(cgroup_v2=False, may_lower_oom_score=False)


def test_a_kubeconfig_carries_its_certificates_inside() -> None:
    text = render.kubeconfig("https://127.0.0.1:6443", b"authority", b"certificate", b"key")
    config = json.loads(text)
    user = config["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == b"key"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert config["current-context"] == config["contexts"][0]["name"]


def test_the_audit_log_tells_of_every_write_and_of_no_contents() -> None:
    policy = json.loads(render.audit_policy())
    written, rest = policy["rules"]
    assert written["level"] == "Metadata"
    assert set(written["verbs"]) >= {"create", "update", "patch", "delete"}
    assert rest == {"level": "None"}


@pytest.mark.parametrize(
    ("may_lower", "restricted", "kubelet_score"),
    [
        pytest.param(False, True, 0, id="without the capability nobody asks for a lower score"),
        pytest.param(True, False, -999, id="with it the kubelet is killed last"),
    ],
)
def test_oom_scores_follow_what_the_machine_allows(
    may_lower: bool, restricted: bool, kubelet_score: int
) -> None:
    host = replace(HOST, may_lower_oom_score=may_lower)
    containerd = tomllib.loads(render.containerd(LAYOUT, host))
    runtime = containerd["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["restrict_oom_score_adj"] is restricted
    assert json.loads(render.kubelet(LAYOUT, host))["oomScoreAdj"] == kubelet_score


def test_nothing_is_kept_outside_the_home_and_the_run_folder() -> None:
    config = tomllib.loads(render.containerd(LAYOUT, HOST))
    kubelet = json.loads(render.kubelet(LAYOUT, HOST))
    assert config["root"] == "/state/containerd"
    assert config["state"] == "/run/x/containerd"
    assert kubelet["podLogsDir"] == "/state/pod-logs"
    assert kubelet["containerRuntimeEndpoint"] == "unix:///run/x/containerd.sock"


def test_pods_are_never_evicted_and_images_never_collected_for_want_of_disk() -> None:
    kubelet = json.loads(render.kubelet(LAYOUT, HOST))
    assert set(kubelet["evictionHard"].values()) == {"0%"}
    assert kubelet["imageGCHighThresholdPercent"] == 100


def test_names_of_the_node_s_services_are_answered_and_unknown_ones_denied() -> None:
    corefile = render.corefile(LAYOUT)
    assert "192.0.2.1 registry.internal prometheus.internal" in corefile
    assert corefile.index("internal:53") < corefile.index("rcode NXDOMAIN")


def test_prometheus_scrapes_what_our_own_program_finds() -> None:
    (job,) = json.loads(render.prometheus(LAYOUT))["scrape_configs"]
    (finder,) = job["file_sd_configs"]
    command = _component("scrape-targets").command
    assert f"-file={finder['files'][0]}" in command


def test_every_object_of_the_cluster_has_a_place_in_the_api() -> None:
    paths = [api.path_of(manifest) for manifest in identities.objects()]
    assert "/api/v1/namespaces/kube-system/services/kube-dns" in paths
    assert "/apis/storage.k8s.io/v1/storageclasses/local" in paths
    assert len(set(paths)) == len(paths)


def test_every_kubeconfig_that_a_component_reads_is_written() -> None:
    written = {f"{client.name}.kubeconfig" for client in identities.CLIENTS}
    read = {path.name for component in components(LAYOUT) for path in component.reads}
    assert {name for name in read if name.endswith(".kubeconfig")} <= written


def _component(name: str, layout: Layout = LAYOUT) -> Component:
    return next(component for component in components(layout) if component.name == name)


def test_every_component_waits_only_for_ones_that_start_before_it() -> None:
    started: set[str] = set()
    for component in components(LAYOUT):
        assert started.issuperset(component.after), component.name
        started.add(component.name)


def test_only_the_forwards_know_of_the_host_s_ports() -> None:
    """Another port on the host must not restart the API server."""
    moved = replace(LAYOUT, ports=Ports(api=7443, registry=7000, prometheus=7090))
    assert components(LAYOUT) == components(moved)


def test_a_component_is_another_when_a_file_that_it_reads_has_changed(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("one")
    component = Component("some", ("program",), reads=(config,))
    before = component.fingerprint({})
    assert component.fingerprint({}) == before
    config.write_text("two")
    assert component.fingerprint({}) != before


def test_a_component_s_memory_goal_reaches_its_environment() -> None:
    assert _component("etcd").environment({"A": "b"}) == {"A": "b", "GOMEMLIMIT": "300MiB"}
