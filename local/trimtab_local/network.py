"""The network namespace that holds the whole cluster, and the way into it.

Pod and service addresses never leave it. Programs enter by `nsenter --net`:
`ip netns exec` would remount /sys, and the kubelet then finds no cgroups.
"""

import errno
import socket
import subprocess
from collections.abc import Iterable, Sequence

from trimtab_local.errors import Trouble
from trimtab_local.layout import (
    API_PORT,
    NODE_ADDRESS,
    PROMETHEUS_PORT,
    REGISTRY_PORT,
    SERVICE_RANGE,
    Layout,
    Ports,
)

LOOPBACK = "127.0.0.1"
# Both ends of the cable lie inside: some kernels have no dummy device. Service
# addresses need some route, or they are refused before nftables translates them;
# whatever leads outside is refused at once instead of after a long wait.
_SETUP = f"""
set -e
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
ip link add uplink type veth peer name far-end
ip address add {NODE_ADDRESS}/24 dev uplink
ip link set uplink up
ip link set far-end up
ip route add {SERVICE_RANGE} dev uplink
ip route add unreachable default
"""


def entered(layout: Layout, command: Iterable[str]) -> list[str]:
    """The command that runs inside; nsenter becomes it, so the pid is the program's."""
    return ["nsenter", f"--net={layout.network}", "--", *command]


def exists(layout: Layout) -> bool:
    """Whether the namespace is there and complete: a crash may have left half of it."""
    if not layout.network.exists():
        return False
    look = entered(layout, ["ip", "route", "show"])
    found = subprocess.run(look, capture_output=True, text=True, check=False)
    return "unreachable default" in found.stdout


def create(layout: Layout) -> None:
    """Holds the namespace by a mount of our own: `ip netns` would leave its folder mounted."""
    layout.network.parent.mkdir(parents=True, exist_ok=True)
    layout.network.touch()
    _run(["unshare", f"--net={layout.network}", "true"])
    _run(entered(layout, ["sh", "-c", _SETUP]))


def remove(layout: Layout) -> None:
    """Takes the name away too where a reboot or a crash left only the empty file."""
    subprocess.run(["umount", str(layout.network)], capture_output=True, check=False)
    layout.network.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(
            f"the cluster's network could not be set up ({done.stderr.strip()})",
            "run `trimtab-local down`, then `trimtab-local up`",
        )


def targets(ports: Ports) -> list[tuple[str, int, int]]:
    """Of each way in: the flag that moves it, the host's port, the port inside."""
    return [
        ("--api-port", ports.api, API_PORT),
        ("--registry-port", ports.registry, REGISTRY_PORT),
        ("--prometheus-port", ports.prometheus, PROMETHEUS_PORT),
    ]


def open_ports(ports: Ports) -> list[socket.socket]:
    """Sockets that listen on the host's loopback, to be handed to the forwarder."""
    opened: list[socket.socket] = []
    try:
        for flag, port, _ in targets(ports):
            opened.append(_listen(port, flag))
    except Trouble:
        for listener in opened:
            listener.close()
        raise
    return opened


def _listen(port: int, flag: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(128)
    except OSError as failure:
        listener.close()
        if failure.errno != errno.EADDRINUSE:
            raise
        raise Trouble(
            f"port {port} of {LOOPBACK} is taken by another program",
            f"end that program (`ss -ltnp sport = :{port}` names it) or choose a port with {flag}",
        ) from failure
    return listener


def forwarder_arguments(listeners: Sequence[socket.socket], ports: Ports) -> list[str]:
    return [
        f"{listener.fileno()}={NODE_ADDRESS}:{port}"
        for listener, (_, _, port) in zip(listeners, targets(ports), strict=True)
    ]
