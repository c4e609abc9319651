"""The commands' insides: up, down, reset. Each can be repeated and goes on from anywhere."""

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from trimtab_local import (
    api,
    build,
    checks,
    identities,
    imagestore,
    inside,
    leftovers,
    network,
    packages,
    processes,
    render,
)
from trimtab_local.components import Component, components
from trimtab_local.errors import Trouble
from trimtab_local.files import alone, write_if_changed
from trimtab_local.layout import NODE_NAME, REGISTRY_NAME, REGISTRY_PORT, Layout, save_ports
from trimtab_local.progress import Progress
from trimtab_local.runtime import Runtime

_NODE_SECONDS: Final = 120.0
_SANDBOX_SECONDS: Final = 90.0


class Cluster:
    """One cluster on this machine."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        self.layout = layout
        self.progress = progress
        self.runtime = Runtime(layout, progress)

    def up(self) -> None:
        require_host()
        with self._alone():
            listeners = self._claim_ports()
            try:
                self._provide_packages()
                self._provide_programs()
                self._prepare()
                self._start(listeners)
                build.remove_outdated(self.layout)
            finally:
                for listener in listeners:
                    listener.close()

    def provide(self, beside: AbstractContextManager[None], needs: Sequence[checks.Need]) -> None:
        """What `up` would install and compile; `beside` runs while the compiler does."""
        require_host()
        with self._alone():
            self._provide_packages(needs)
            with beside:
                self._provide_programs()

    def down(self) -> None:
        require_host()
        with self._alone():
            self._take_down()

    def reset(self, *, keep_images: bool) -> None:
        require_host()
        with self._alone():
            self._take_down()
            with self.progress.step("delete the state"):
                self._delete_state(keep_images=keep_images)

    def _alone(self) -> AbstractContextManager[None]:
        """One command at a time changes the cluster."""
        return alone(self.layout.lock, self.progress, "trimtab-local command")

    def _claim_ports(self) -> list[socket.socket]:
        """First of all: a taken port should be known before minutes of compiling."""
        self._drop_changed_forwards()
        return [] if self._forwards_run() else network.open_ports(self.layout.ports)

    def _drop_changed_forwards(self) -> None:
        if not self._forwards_run():
            self.runtime.stop_forwards()

    def _forwards_run(self) -> bool:
        return self.runtime.forwards_run() and network.exists(self.layout)

    def _provide_packages(self, needs: Sequence[checks.Need] = ()) -> None:
        unbuilt = build.missing(self.layout)
        compiling = [checks.to_compile(self.layout)] if unbuilt else []
        checks.require_space([checks.to_run(self.layout), *compiling, *needs])
        if unbuilt:
            build.require_go()
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        lacking = packages.missing()
        if lacking:
            with self.progress.step(f"install {', '.join(lacking)} by apt-get"):
                packages.install(lacking, self.runtime.log_of("packages"))
        if not packages.has_prometheus(self.layout):
            with self.progress.step("unpack prometheus from its Debian package"):
                packages.unpack_prometheus(self.layout, self.runtime.log_of("packages"))

    def _provide_programs(self) -> None:
        for artifact in build.missing(self.layout):
            with self.progress.step(f"build {artifact.name} (once; minutes, not seconds)") as tell:
                build.build(artifact, self.layout, self.runtime.log_of("build"), tell)
        build.link(self.layout)

    def _prepare(self) -> None:
        if not network.exists(self.layout) and any(processes.members(self.layout.home)):
            # Their network is gone: nothing of what still runs can be reached again.
            self._take_down()
        strays = self.runtime.strays()
        if strays:
            with self.progress.step(f"end {len(strays)} stray processes of an interrupted start"):
                processes.stop(strays, grace_seconds=5)
        with self.progress.step("network, certificates, configuration"):
            self._make_folders()
            leftovers.make_cgroups(self.layout.cgroup)
            leftovers.save_kernel_settings(self.layout)
            if not network.exists(self.layout):
                network.remove(self.layout)
                network.create(self.layout)
            identities.make_certificates(self.layout)
            identities.write_kubeconfigs(self.layout)
            write_configuration(self.layout)
            save_ports(self.layout)

    def _make_folders(self) -> None:
        layout = self.layout
        for folder in (layout.volumes, layout.registry, layout.prometheus, layout.pod_logs):
            folder.mkdir(parents=True, exist_ok=True)
        layout.processes.mkdir(parents=True, exist_ok=True)
        # Secrets of pods lie below; the folder of volumes must be passable for them.
        layout.home.chmod(0o711)

    def _start(self, listeners: Sequence[socket.socket]) -> None:
        wanted = components(self.layout)
        with self.progress.step("all components ready"):
            if listeners:
                self.runtime.start_forwards(listeners)
            self.runtime.bring_up(wanted)
        with self.progress.step("pause image, roles, storage class"):
            imagestore.ensure_pause_image(self.layout)
            self._apply_objects()
        with self.progress.step(f"node {NODE_NAME} ready"):
            self._wait_for_node()

    def _apply_objects(self) -> None:
        """Tried again for a while: a server that is ready may still lack its namespaces."""
        deadline = time.monotonic() + _NODE_SECONDS
        for manifest in identities.objects():
            while not (answer := api.apply(self.layout, manifest)).is_good:
                if time.monotonic() > deadline:
                    raise Trouble(
                        f"{manifest['kind']} {manifest['metadata']['name']} of the cluster itself "
                        f"was refused ({answer.message})",
                        "see `trimtab-local logs api-server`",
                    )
                time.sleep(0.3)

    def _wait_for_node(self) -> None:
        """Ready for pods: the node is, and the account that pods run under exists."""
        deadline = time.monotonic() + _NODE_SECONDS
        while time.monotonic() < deadline:
            node = api.get(self.layout, f"/api/v1/nodes/{NODE_NAME}")
            account = api.get(self.layout, "/api/v1/namespaces/default/serviceaccounts/default")
            if is_ready(node.body) and account.is_good:
                return
            time.sleep(0.2)
        raise Trouble(
            f"node {NODE_NAME} was not ready after {_NODE_SECONDS:.0f} seconds",
            "see `trimtab-local logs kubelet` and `trimtab-local logs containerd`",
        )

    def _take_down(self) -> None:
        wanted = components(self.layout)
        self._remove_pods(wanted)
        with self.progress.step("end all components"):
            self.runtime.stop_all(wanted)
        with self.progress.step("clear mounts, cgroups, network"):
            leftovers.kill_contained(self.layout.cgroup)
            leftovers.unmount(self.layout)
            leftovers.remove_cgroups(self.layout.cgroup)
            network.remove(self.layout)
            leftovers.remove_log_links(self.layout)
            leftovers.remove_pod_addresses(self.layout)
            leftovers.remove_device_socket()
            leftovers.remove_empty_folders()
            leftovers.restore_kernel_settings(self.layout)
            shutil.rmtree(self.layout.run, ignore_errors=True)

    def _remove_pods(self, wanted: Sequence[Component]) -> None:
        """Through the runtime while it lives; what it cannot do is done by force after."""
        kubelet = next(component for component in wanted if component.name == "kubelet")
        running = self.runtime.table.running(kubelet.name)
        if running:  # it would start every pod again
            processes.stop([running], kubelet.grace_seconds)
        # The linked program, not the current sources' one: that may not be built.
        program = self.layout.programs / build.KUBE
        if not program.exists() or not inside.accepts(self.layout.containerd_socket):
            return
        with self.progress.step("remove the pods from the node"):
            command = [str(program), "remove-sandboxes", str(self.layout.containerd_socket)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=_SANDBOX_SECONDS
                )
            except subprocess.TimeoutExpired:
                self.progress.note("the runtime did not answer: its pods are ended by force")
                return
            if done.returncode:
                self.progress.note(f"some pods are ended by force ({done.stderr.strip()})")

    def _delete_state(self, *, keep_images: bool) -> None:
        """By name: a home that was set to a folder with other things in it keeps them."""
        layout = self.layout
        doomed = [
            layout.certificates,
            layout.config,
            layout.etcd,
            layout.kubelet,
            layout.logs,
            layout.pod_logs,
            layout.prometheus,
            layout.registry,
            layout.volumes,
        ]
        if not keep_images:
            doomed.append(layout.containerd)
        for folder in doomed:
            if folder.exists():
                shutil.rmtree(folder)
        for file in (layout.kubeconfig, layout.settings, render.scrape_targets(layout)):
            file.unlink(missing_ok=True)
        if layout.home.exists() and not any(layout.home.iterdir()):
            layout.home.rmdir()


def is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def require_host() -> None:
    checks.require_linux(platform.system())
    checks.require_root(os.geteuid())


def write_configuration(layout: Layout) -> None:
    host = checks.look_at_host()
    registries = layout.config / "registries" / f"{REGISTRY_NAME}:{REGISTRY_PORT}"
    files = {
        layout.config / "audit-policy.json": render.audit_policy(),
        layout.config / "Corefile": render.corefile(layout),
        layout.config / "cni" / "10-trimtab.conflist": render.cni(layout),
        layout.config / "containerd.toml": render.containerd(layout, host),
        layout.config / "kubelet.yaml": render.kubelet(layout, host),
        layout.config / "prometheus.yaml": render.prometheus(layout),
        layout.config / "registry.yaml": render.registry(layout),
        layout.config / "resolv.conf": render.resolv_conf(),
        registries / "hosts.toml": render.registry_hosts(),
    }
    for path, text in files.items():
        write_if_changed(path, text)
