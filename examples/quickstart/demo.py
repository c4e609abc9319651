"""`make demo`: the main job, on a real Kubernetes, with real text."""

import argparse
import sys
import time
from pathlib import Path

from examples.quickstart import show, steps, target
from examples.quickstart.kube import CommandFailed
from examples.quickstart.plot import draw

NAMESPACE = "trimtab-demo"


def main() -> int:
    """Run every step that is not done yet, or take all of it away; 0 when that worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("direction", choices=("up", "down"))
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
    try:
        demo(output) if arguments.direction == "up" else target.remove(NAMESPACE, output)
    except CommandFailed as failure:
        sys.stderr.write(f"\n{failure}\n\nRun `make demo` again to go on from here.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Run `make demo` again to go on from here.\n")
        return 130
    if arguments.direction == "up":
        sys.stdout.write(
            f"\nAll of it took {time.monotonic() - began:.0f} s. `make demo-down` removes everything.\n"
        )
    return 0


def demo(output: Path) -> None:
    """From nothing to a tuned model that answers."""
    sys.stdout.write(
        "From nothing this takes some 20 minutes, half of them for compiling Kubernetes. "
        "What is done is not done again.\n"
    )
    place = target.chosen(NAMESPACE, output / "demo.log")
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
    version, tuned_curve = steps.train(
        kube,
        "docs-bot",
        steps.rendered("3-tuned.yaml", BASE=base, **values),
        "Fine-tuning with LoRA",
    )
    tuned = steps.evaluated(kube, version)
    service = steps.serve(
        kube, steps.rendered("4-service.yaml", BASE=base, VERSION=version, **values), "docs"
    )
    picture = output / "loss.svg"
    draw(steps.remembered([base_curve, tuned_curve], output / "losses.json"), picture)
    show.everything(place, datasets, tuned, service, picture)


if __name__ == "__main__":
    sys.exit(main())
