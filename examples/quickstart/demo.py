"""`make demo`: the main job, on a real Kubernetes, with real text; `make demo-loop`: what follows from traffic."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from examples.quickstart import loop as closedloop
from examples.quickstart import show, steps, target
from examples.quickstart.kube import CommandFailed, Object
from examples.quickstart.plot import Curve, draw

NAMESPACE = "trimtab-demo"


def main() -> int:
    """Run every step that is not done yet, or take all of it away; 0 when that worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("direction", choices=("up", "loop", "down"))
    parser.add_argument(
        "--output",
        type=Path,
        default=target.ROOT / ".demo",
        help="folder for data, log and picture",
    )
    arguments = parser.parse_args()
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    again = "make demo-loop" if arguments.direction == "loop" else "make demo"
    try:
        {"up": demo, "loop": loop, "down": _down}[arguments.direction](output)
    except CommandFailed as failure:
        sys.stderr.write(f"\n{failure}\n\nRun `{again}` again to go on from here.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\nInterrupted. Run `{again}` again to go on from here.\n")
        return 130
    if arguments.direction != "down":
        sys.stdout.write(
            f"\nAll of it took {time.monotonic() - began:.0f} s. `make demo-down` removes everything.\n"
        )
    return 0


@dataclass(frozen=True)
class Made:
    """What the demo has made, and the values of its manifests."""

    values: dict[str, str]
    datasets: list[Object]
    tuned: Object
    curves: list[Curve]


def demo(output: Path) -> None:
    """From nothing to a tuned model that answers."""
    place = _chosen(output)
    made = _made(place, output)
    version = made.tuned["metadata"]["name"]
    manifest = steps.rendered("4-service.yaml", VERSION=version, **made.values)
    service = steps.serve(place.kube, manifest, "docs")
    picture = output / "loss.svg"
    draw(steps.remembered(made.curves, output / "losses.json"), picture)
    show.everything(place, made.datasets, made.tuned, service, picture)


def loop(output: Path) -> None:
    """What live traffic does to the demo's model, once that is made: promotion, rollback, drift, a successor."""
    place = _chosen(output)
    if not place.prometheus:
        raise CommandFailed(
            "rollouts and drift are judged by what Prometheus has scraped: set PROMETHEUS_URL to one "
            "that the operator reaches and that scrapes the pods"
        )
    made = _made(place, output)
    closedloop.show(place, output, made.values, made.tuned["metadata"]["name"])


def _chosen(output: Path) -> target.Target:
    sys.stdout.write(
        "From nothing this takes some 20 minutes, half of them for compiling Kubernetes. "
        "What is done is not done again.\n"
    )
    return target.chosen(NAMESPACE, output / "demo.log")


def _made(place: target.Target, output: Path) -> Made:
    kube = place.kube
    target.install(place)
    kube.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n")
    values = {**steps.data(place, output), "GPUS": str(place.gpus)}
    datasets = steps.prepare(
        kube,
        ("library-text", "library-questions"),
        steps.rendered("1-data.yaml", **values),
    )
    base, base_curve = steps.train(
        kube,
        "tiny-base",
        steps.rendered("2-base.yaml", **values),
        "Base model, trained from scratch",
    )
    steps.evaluated(kube, base)
    values["BASE"] = base
    version, tuned_curve = steps.train(
        kube,
        "docs-bot",
        steps.rendered("3-tuned.yaml", **values),
        "Fine-tuning with LoRA",
    )
    tuned = steps.evaluated(kube, version)
    return Made(values, datasets, tuned, [base_curve, tuned_curve])


def _down(output: Path) -> None:
    target.remove(NAMESPACE, output)


if __name__ == "__main__":
    sys.exit(main())
