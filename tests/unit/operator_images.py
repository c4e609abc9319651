"""What nodes say about the images of pods, and what follows for later pods."""

import pytest

from trimtab_operator.domain.images import Image, observed
from trimtab_operator.domain.manifests import Manifest

HEX = "a" * 64
DIGEST = f"sha256:{HEX}"
OTHER = "sha256:" + "b" * 64
TAG = "registry.example.com/team/pipelines:1.0"


def pod(image_id: str, container: str = "train", part: str = "containerStatuses") -> Manifest:
    return {"status": {part: [{"name": container, "imageID": image_id}]}}


@pytest.mark.parametrize(
    ("configured", "said", "image"),
    [
        pytest.param(
            TAG,
            f"registry.example.com/team/pipelines@{DIGEST}",
            f"registry.example.com/team/pipelines@{DIGEST}",
            id="an image that was pulled is fixed by its digest",
        ),
        pytest.param(
            "localhost:5000/pipelines",
            f"localhost:5000/pipelines@{DIGEST}",
            f"localhost:5000/pipelines@{DIGEST}",
            id="a port is no tag",
        ),
        pytest.param(
            "trimtab/pipelines:dev",
            f"docker.io/trimtab/pipelines@{DIGEST}",
            f"docker.io/trimtab/pipelines@{DIGEST}",
            id="a short name is one of the public hub",
        ),
        pytest.param(
            "pipelines",
            f"docker-pullable://docker.io/library/pipelines@{DIGEST}",
            f"docker.io/library/pipelines@{DIGEST}",
            id="an older runtime puts a scheme before it",
        ),
        pytest.param(
            "trimtab/pipelines:dev",
            DIGEST,
            "trimtab/pipelines:dev",
            id="an image that was loaded into the node has no other name",
        ),
        pytest.param(
            "trimtab/pipelines:dev",
            HEX,
            "trimtab/pipelines:dev",
            id="a runtime leaves out the algorithm",
        ),
        pytest.param(
            TAG,
            f"docker.io/library/import-2026-01-01@{DIGEST}",
            TAG,
            id="a name that the node has made up is no good elsewhere",
        ),
    ],
)
def test_the_image_of_a_pod(configured: str, said: str, image: str) -> None:
    assert observed(Image.of(configured), [pod(said)], {"train"}) == Image(image, DIGEST)


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param([], id="there is no pod"),
        pytest.param([pod("")], id="the pod has not started"),
        pytest.param([{}], id="the pod has no status"),
        pytest.param([pod("something else")], id="the node says something else"),
        pytest.param([pod(DIGEST, "proxy")], id="only somebody else's container has started"),
    ],
)
def test_nothing_is_known_while(nothing: list[Manifest]) -> None:
    assert observed(Image.of(TAG), nothing, {"train"}) == Image(TAG)


def test_a_fixed_image_is_not_asked_about_again() -> None:
    fixed = Image.of(f"registry.example.com/team/pipelines@{DIGEST}")
    assert fixed.digest == DIGEST
    said = pod(f"registry.example.com/team/pipelines@{OTHER}")
    assert observed(fixed, [said], {"train"}) == fixed


def test_the_youngest_pod_that_has_started_counts() -> None:
    pods = [pod(""), pod(OTHER, "fetch", "initContainerStatuses"), pod(DIGEST)]
    assert observed(Image.of(TAG), pods, {"fetch", "train"}).digest == OTHER
