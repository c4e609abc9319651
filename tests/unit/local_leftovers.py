"""What a crash leaves is found by looking, and only what is ours is touched."""

from pathlib import Path

import pytest

from trimtab_local import checks, imagestore, leftovers
from trimtab_local.layout import Layout

MOUNTS = r"""
22 1 254:0 / / rw - ext4 /dev/vda rw
40 22 0:30 / /state/kubelet/pods/a/volumes/projected rw - tmpfs tmpfs rw
41 40 0:31 / /state/kubelet/pods/a/volumes/projected/in\040it rw - tmpfs tmpfs rw
42 22 0:32 / /statement rw - tmpfs tmpfs rw
43 22 0:33 / /run/x/containerd/rootfs rw - overlay overlay rw
""".strip()


def layout(tmp_path: Path) -> Layout:
    return Layout(home=tmp_path / "home", cache=tmp_path / "cache", run=tmp_path / "run")


def test_mounts_are_undone_from_the_innermost_out_and_neighbours_spared() -> None:
    found = leftovers.mounts_below((Path("/state"), Path("/run/x")), MOUNTS)
    assert [str(point) for point in found] == [
        "/run/x/containerd/rootfs",
        "/state/kubelet/pods/a/volumes/projected/in it",
        "/state/kubelet/pods/a/volumes/projected",
    ]


def test_with_cgroup_v1_our_group_is_made_and_removed_in_each_hierarchy(tmp_path: Path) -> None:
    for name in ("cpu", "memory"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuacct").symlink_to("cpu")
    leftovers.make_cgroups("trimtab-local", tmp_path)
    (tmp_path / "memory/trimtab-local/pod/container").mkdir(parents=True)
    assert len(leftovers.cgroup_folders("trimtab-local", tmp_path)) == 2
    leftovers.remove_cgroups("trimtab-local", tmp_path)
    assert leftovers.cgroup_folders("trimtab-local", tmp_path) == []
    assert (tmp_path / "memory").is_dir()


def test_with_cgroup_v2_there_is_one_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "system.slice").mkdir()
    leftovers.make_cgroups("trimtab-local", tmp_path)
    assert leftovers.cgroup_folders("trimtab-local", tmp_path) == [tmp_path / "trimtab-local"]


def test_log_links_of_others_stay(tmp_path: Path) -> None:
    links = tmp_path / "containers"
    links.mkdir()
    (links / "ours.log").symlink_to(layout(tmp_path).pod_logs / "a/0.log")
    (links / "theirs.log").symlink_to("/var/log/pods/b/0.log")
    leftovers.remove_log_links(layout(tmp_path), links)
    assert [entry.name for entry in links.iterdir()] == ["theirs.log"]


def test_only_addresses_of_our_pods_are_forgotten(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "ours-eth0").write_text(f'{{"netns": "{tmp_path}/run/containerd/cni-1"}}')
    (results / "theirs-eth0").write_text('{"netns": "/run/netns/cni-2"}')
    leftovers.remove_pod_addresses(layout(tmp_path), results)
    assert [entry.name for entry in results.iterdir()] == ["theirs-eth0"]


def test_folders_at_fixed_places_go_when_they_are_empty_and_stay_in_use(tmp_path: Path) -> None:
    (tmp_path / "var/lib/kubelet/device-plugins").mkdir(parents=True)
    (tmp_path / "var/lib/cni/results").mkdir(parents=True)
    (tmp_path / "var/lib/cni/cache").mkdir()
    leftovers.remove_empty_folders(tmp_path)
    assert sorted(path.name for path in (tmp_path / "var/lib").iterdir()) == ["cni"]
    assert [path.name for path in (tmp_path / "var/lib/cni").iterdir()] == ["cache"]


def test_kernel_settings_come_back_as_they_were_before_the_first_start(tmp_path: Path) -> None:
    here, proc = layout(tmp_path), tmp_path / "sys"
    here.run.mkdir()
    setting = proc / "kernel" / "panic"
    setting.parent.mkdir(parents=True)
    setting.write_text("0\n")
    leftovers.save_kernel_settings(here, proc)
    setting.write_text("10\n")
    leftovers.save_kernel_settings(here, proc)  # a second `up` in between
    leftovers.restore_kernel_settings(here, proc)
    assert setting.read_text() == "0"


def test_bare_names_of_builders_get_the_name_that_kubernetes_reads() -> None:
    found = ["localhost/trimtab/operator:dev", "docker.io/library/x:1", "localhost/x:1"]
    assert imagestore.aliases(found) == [
        ("localhost/trimtab/operator:dev", "docker.io/trimtab/operator:dev"),
    ]


@pytest.mark.parametrize(
    ("bits", "held"),
    [
        pytest.param("000001fffeffffff", False, id="all but the one asked for"),
        pytest.param("000001ffffffffff", True, id="all of them"),
    ],
)
def test_capabilities_are_read_from_the_process_status(bits: str, held: bool) -> None:
    assert checks.has_capability(f"Name:\tx\nCapEff:\t{bits}\n", 24) is held
