"""Where the demo runs: the cluster on this machine, or one of the user's own."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from examples.quickstart import kind
from examples.quickstart.kube import CommandFailed, Kube
from examples.quickstart.progress import Step, step

from trimtab_api.names import GROUP
from trimtab_local import base_image
from trimtab_local.images import TAG, inputs_digest
from trimtab_local.images import chosen as chosen_images
from trimtab_local.layout import (
    PROMETHEUS_NAME,
    PROMETHEUS_PORT,
    REGISTRY_NAME,
    REGISTRY_PORT,
    layout_from,
)

ROOT = Path(__file__).parents[2]
RELEASE, RELEASE_NAMESPACE = "trimtab", "trimtab-system"
OPERATOR = f"{RELEASE}-operator"
CPU_ENGINE = "engine-cpu"
LOCAL_PROMETHEUS = f"http://{PROMETHEUS_NAME}:{PROMETHEUS_PORT}"
IMAGES = ("operator", "pipelines", "serving", CPU_ENGINE)
# Engines on GPUs are upstream's; of the version that the CPU engine has.
GPU_ENGINE_IMAGE = "docker.io/vllm/vllm-openai:v0.32.0"


@dataclass(frozen=True)
class Target:
    """A cluster, and an OCI registry that its pods can reach.

    `registry` is the registry's address as pods say it, `registry_from_here` as this machine does.
    """

    kube: Kube
    registry: str
    registry_from_here: str
    plain_http: bool
    image_prefix: str
    image_tag: str = TAG
    gpus: int = 0
    engine_image: str = ""  # the chart's own, for CPUs, where it is empty
    prometheus: str = ""  # without one, rollouts hold and drift is unknown


def chosen(namespace: str, log: Path) -> Target:
    """The user's own cluster when KUBECONFIG names one, else the one on this machine."""
    kubeconfig = os.environ.get("KUBECONFIG")
    return own(namespace, Path(kubeconfig), log) if kubeconfig else local(namespace, log)


def local(namespace: str, log: Path) -> Target:
    """The cluster on this machine: brought up, with our images in it."""
    layout = layout_from(os.environ)
    command = [sys.executable, "-m", "trimtab_local"]
    with step("Programs of a cluster, container images") as shown:
        _logged([*command, "build"], log, shown)
    with step("Cluster on this machine") as shown:
        _logged([*command, "up"], log, shown)
    with step("Images into the cluster") as shown:
        _logged([*command, "images", "build", *IMAGES], log, shown)
    return Target(
        kube=Kube(layout.kubeconfig, namespace, layout.programs),
        registry=f"{REGISTRY_NAME}:{REGISTRY_PORT}/trimtab",
        registry_from_here=f"127.0.0.1:{layout.ports.registry}/trimtab",
        plain_http=True,
        image_prefix="localhost/trimtab",
        prometheus=LOCAL_PROMETHEUS,
    )


def own(namespace: str, kubeconfig: Path, log: Path) -> Target:
    """A cluster of the user's own, with images in a registry of the user's, or beside kind's nodes."""
    kube = Kube(kubeconfig, namespace)
    gpus = _gpus()
    registry, here, plain_http = _registry(kube)
    images = [name for name in IMAGES if not (gpus and name == CPU_ENGINE)]
    tag = _build(images)
    flags = ["--tag", tag, *(["--plain-http"] if plain_http else [])]
    with step(f"Container images to {here}") as shown:
        push = [sys.executable, "-m", "trimtab_local", "images", "push", *flags, here]
        _logged([*push, *images], log, shown)
    return Target(
        kube=kube,
        registry=registry,
        registry_from_here=here,
        plain_http=plain_http,
        image_prefix=registry,
        image_tag=tag,
        gpus=gpus,
        engine_image=os.environ.get("ENGINE_IMAGE", GPU_ENGINE_IMAGE if gpus else ""),
        prometheus=os.environ.get("PROMETHEUS_URL", ""),
    )


def _build(images: list[str]) -> str:
    """A tag for these images as they are made from this checkout.

    Nodes do not pull a tag again that they have, so another build needs another tag.
    """
    base = base_image.inputs()
    made_from = "".join(inputs_digest(image, base) for image in chosen_images(images))
    return f"{TAG}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"


def _gpus() -> int:
    asked = os.environ.get("GPUS", "") or "0"
    if not asked.isdecimal():
        raise CommandFailed(f"GPUS={asked} is no number; set it to the GPUs per pod, 0 or 1")
    return int(asked)


def _registry(kube: Kube) -> tuple[str, str, bool]:
    """The registry as pods and nodes say it, as this machine does, and whether it speaks no TLS."""
    registry = os.environ.get("IMAGE_REGISTRY", "").rstrip("/")
    if registry:
        # One inside of the cluster's network has another address out here.
        here = os.environ.get("IMAGE_REGISTRY_HERE", "").rstrip("/") or registry
        return registry, here, os.environ.get("REGISTRY_PLAIN_HTTP", "") == "1"
    cluster = kind.found(kube.kubectl)
    if cluster is None:
        raise CommandFailed(
            "KUBECONFIG names a cluster of your own: set IMAGE_REGISTRY=host/path to a registry "
            "that its nodes and pods can reach, or unset KUBECONFIG to use a cluster on this machine"
        )
    with step("Registry beside kind's nodes"):
        return f"{kind.ADDRESS}/trimtab", f"{cluster.registry_from_here()}/trimtab", True


def install(target: Target) -> None:
    """Install or upgrade the chart; it waits until the operator is ready."""
    with step("Helm chart"):
        settings = {
            "images.repository": target.image_prefix,
            "images.tag": target.image_tag,
            "images.engine": target.engine_image,
            "registry.prefix": target.registry,
            "registry.plainHttp": str(target.plain_http).lower(),
            "prometheus.url": target.prometheus,
        }
        # On this machine the tag stays the same from build to build; a changed operator must start anew all the same.
        operator = inputs_digest(chosen_images(["operator"])[0], base_image.inputs())
        settings["operator.podAnnotations.trimtab\\.dev/build"] = operator
        flags = [
            flag
            for name, value in settings.items()
            for flag in ("--set-string" if "Annotations" in name else "--set", f"{name}={value}")
        ]
        target.kube.helm(
            "upgrade",
            "--install",
            RELEASE,
            str(ROOT / "charts" / "trimtab"),
            "--namespace",
            RELEASE_NAMESPACE,
            "--create-namespace",
            # CRDs that an earlier release left behind (`crds.keep`) become this one's.
            "--take-ownership",
            "--wait",
            "--timeout",
            "5m",
            *flags,
        )


def remove(namespace: str, output: Path) -> None:
    """Take everything of the demo away: the cluster on this machine, or what was put into the user's own."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if kubeconfig:
        kube = Kube(Path(kubeconfig), namespace)
        with step("Namespace and chart removed"):
            empty(kube)
            kube.helm(
                "uninstall",
                RELEASE,
                "--namespace",
                RELEASE_NAMESPACE,
                "--ignore-not-found",
                "--wait",
            )
            kube.kubectl("delete", "namespace", RELEASE_NAMESPACE, "--ignore-not-found")
            _remove_kinds(kube)
            if not os.environ.get("IMAGE_REGISTRY") and (cluster := kind.found(kube.kubectl)):
                cluster.remove_registry()
    else:
        with step("Cluster removed") as shown:
            _logged([sys.executable, "-m", "trimtab_local", "reset"], output / "demo.log", shown)
    shutil.rmtree(output)


def empty(kube: Kube) -> None:
    """Delete the namespace with all that is in it.

    Users of versions go before the versions, and all of them before the namespace: a namespace
    waits for half the grace period of the pods that it finds, and engines have a long one.
    """
    for kinds in ("inferenceservices,finetunejobs", "modelversions,datasets"):
        kube.kubectl("delete", kinds, "--all", "--ignore-not-found", "--timeout=120s")
    with contextlib.suppress(
        CommandFailed
    ):  # there is no pod, or one takes longer: the namespace waits for it
        kube.kubectl("wait", "--for=delete", "pod", "--all", "--timeout=120s")
    kube.kubectl("delete", "namespace", kube.namespace, "--ignore-not-found", "--wait")


def _remove_kinds(kube: Kube) -> None:
    """Delete the CRDs that the chart keeps, unless somebody else's objects would go with them."""
    names = kube.kubectl("get", "crd", "-o", "name").split()
    kinds = [n.partition("/")[2] for n in names if n.endswith(f".{GROUP}")]
    if kinds and not kube.kubectl("get", ",".join(kinds), "--all-namespaces", "-o", "name").strip():
        kube.kubectl("delete", "crd", *kinds)


def _logged(command: list[str], log: Path, shown: Step) -> None:
    """Run a command of ours, its last line shown and all of them in the log; on failure, say the end."""
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        ) as running,
    ):
        for line in running.stdout or ():
            file.write(line)
            file.flush()
            shown.say(" ".join(line.split()))
    if running.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise CommandFailed(f"{' '.join(command[2:])} failed; the end of {log}:\n{last}")
    shown.say("")
