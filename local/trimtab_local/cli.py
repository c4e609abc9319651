"""The command `trimtab-local`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from trimtab_local import images, imagestore, status
from trimtab_local.cluster import Cluster, require_host
from trimtab_local.components import FORWARDS, components
from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout, layout_from
from trimtab_local.progress import Progress

# Their arguments are theirs alone, options included.
_PASSED_THROUGH: Final = ("kubectl", "helm")
_INTERRUPTED: Final = 130
_READER_GONE: Final = 141


def main(arguments: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, as in `status | head`; Python would try once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except Trouble as trouble:
        print(f"trimtab-local: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trimtab-local: interrupted; the same command goes on from here", file=sys.stderr)
        return _INTERRUPTED
    return code


def _dispatch(argv: list[str]) -> int:
    layout = layout_from(os.environ)
    if argv and argv[0] in _PASSED_THROUGH:
        return _pass_through(layout, argv)
    if argv and argv[0] == "images":
        return images.main(argv[1:])
    parsed = _parser().parse_args(argv)
    run: Callable[[Layout, argparse.Namespace], int] = parsed.run
    return run(layout, parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trimtab-local", description="A real Kubernetes on this machine, without Docker."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "build", _build, "make programs and images side by side; start nothing")
    up = _command(commands, "up", _up, "build what is missing, start or repair the cluster")
    for name, what in (
        ("api", "API server"),
        ("registry", "registry"),
        ("prometheus", "Prometheus"),
    ):
        up.add_argument(f"--{name}-port", type=int, help=f"loopback port of the {what}")
    _command(commands, "down", _down, "end everything and keep the state")
    reset = _command(commands, "reset", _reset, "end everything and delete the state")
    reset.add_argument(
        "--keep-images", action="store_true", help="keep the images that were loaded"
    )
    _command(commands, "status", _status, "what runs, and how to reach it")
    load = _command(commands, "load", _load, "put images from OCI or Docker archives on the node")
    load.add_argument("files", nargs="+", type=Path, metavar="FILE")
    _command(commands, "kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    logs = _command(commands, "logs", _logs, "print the log of a component")
    logs.add_argument("component")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("-n", "--lines", type=int, default=100, help="how many of the last lines")
    for name, what in (
        ("images", "build Trimtab's own images"),
        ("kubectl", "run kubectl on this cluster"),
        ("helm", "run helm on this cluster"),
    ):
        commands.add_parser(name, help=what, add_help=False)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[Layout, argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _build(layout: Layout, _: argparse.Namespace) -> int:
    """One waits for the processor most of the time, the other for the network and the disk."""
    progress = Progress()
    Cluster(layout, progress).provide(images.beside(progress), images.needs(layout))
    return 0


def _up(layout: Layout, parsed: argparse.Namespace) -> int:
    asked = {
        "api": parsed.api_port,
        "registry": parsed.registry_port,
        "prometheus": parsed.prometheus_port,
    }
    chosen = {name: port for name, port in asked.items() if port is not None}
    layout = replace(layout, ports=replace(layout.ports, **chosen))
    Cluster(layout, Progress()).up()
    print(status.how_to_reach(layout))
    return 0


def _down(layout: Layout, _: argparse.Namespace) -> int:
    Cluster(layout, Progress()).down()
    return 0


def _reset(layout: Layout, parsed: argparse.Namespace) -> int:
    Cluster(layout, Progress()).reset(keep_images=parsed.keep_images)
    return 0


def _status(layout: Layout, _: argparse.Namespace) -> int:
    require_host()
    rows = status.look(layout)
    print(status.as_table(rows))
    print(status.how_to_reach(layout))
    return 0 if all(row.state == status.READY for row in rows) else 1


def _load(layout: Layout, parsed: argparse.Namespace) -> int:
    require_host()
    progress = Progress()
    for file in parsed.files:
        with progress.step(f"load {file}"):
            names = imagestore.load(layout, file)
        print("\n".join(names) if names else f"{file} holds nothing that was not there")
    return 0


def _kubeconfig(layout: Layout, _: argparse.Namespace) -> int:
    if not layout.kubeconfig.exists():
        raise Trouble("there is no cluster yet", "make one by `trimtab-local up`")
    print(layout.kubeconfig)
    return 0


def _logs(layout: Layout, parsed: argparse.Namespace) -> int:
    log = layout.logs / f"{parsed.component}.log"
    if not log.exists():
        names = [*(component.name for component in components(layout)), FORWARDS, "build"]
        raise Trouble(
            f"there is no log of {parsed.component!r}", f"choose one of {', '.join(sorted(names))}"
        )
    follow = ["-F"] if parsed.follow else []
    command = ["tail", "-n", str(parsed.lines), *follow, str(log)]
    os.execvp("tail", command)  # noqa: S606 - arguments of our own making


def _pass_through(layout: Layout, argv: Sequence[str]) -> int:
    program = layout.programs / argv[0]
    if not program.exists():
        raise Trouble(f"{argv[0]} is not built yet", "build it by `trimtab-local up`")
    environment = {"KUBECONFIG": str(layout.kubeconfig)} | os.environ
    os.execve(program, list(argv), environment)  # noqa: S606 - the two programs named above


if __name__ == "__main__":
    sys.exit(main())
