"""What kubectl tells of each step, and the operator's page about all of them."""

import dataclasses
import shlex
import sys
from pathlib import Path

from examples.quickstart.kube import CommandFailed, Kube
from examples.quickstart.progress import step
from examples.quickstart.target import OPERATOR, RELEASE_NAMESPACE, Target

# All that tells of a service, as docs/monitoring.md names it.
TELLING = "inferenceservices,decisions,modelversions,finetunejobs,events,configmaps"


def tell(kube: Kube, *lines: tuple[str, ...]) -> None:
    """Run the lines as a user would type them, and print them with what they say."""
    for line in lines:
        typed = shlex.join(("kubectl", "-n", kube.namespace, *line))
        sys.stdout.write(f"\n$ {typed}\n{kube.kubectl(*line)}")
    sys.stdout.write("\n")
    sys.stdout.flush()


def fields(root: str, *shown: str) -> tuple[str, str]:
    """The flag that has these fields below `root` printed, one a line."""
    lines = "".join(f'{field}: {{.{field}}}{{"\\n"}}' for field in shown)
    return "-o", f"jsonpath={{range {root}}}{lines}{{end}}"


def write(place: Target, service: str, page: Path) -> None:
    """The history of the service as a file; made in the operator's pod, which has all that it takes."""
    with step("The decisions about the service as one page") as shown:
        try:
            page.write_text(_history(place, service), encoding="utf-8")
        except CommandFailed as refusal:
            # Whoever may not run programs in the operator's pod has seen all the same what it would tell.
            shown.note(f"There is no page: {refusal}")
        else:
            shown.say(str(page))


def _history(place: Target, service: str) -> str:
    kube = place.kube
    within = dataclasses.replace(kube, namespace=RELEASE_NAMESPACE)
    asked = ("--prometheus", place.prometheus) if place.prometheus else ()
    printed = within.kubectl(
        *("exec", "-i", f"deployment/{OPERATOR}", "--", "python", "-m", "trimtab_operator"),
        *("history", service, "--namespace", kube.namespace, "--hours", "1", *asked),
        *("--file", "/dev/stdin", "--output", "/dev/stdout"),
        text=kube.kubectl("get", TELLING, "-o", "json"),
    )
    # The command ends by saying where it has written to.
    return printed.removesuffix("/dev/stdout\n")
