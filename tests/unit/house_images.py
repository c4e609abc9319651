"""What makes an image stale, and what is handed to the cluster."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from trimtab_local import base_image, checks, handover, images, packages
from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout
from trimtab_local.progress import Progress

IMAGE = images.Image("demo", ("requirements/demo.txt", "code"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Dockerfile", "requirements/demo.txt", "code/main.py", "other/main.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    return tmp_path


CHANGES = [
    pytest.param(lambda at: (at / "code/main.py").write_text("x"), True, id="a changed module"),
    pytest.param(lambda at: (at / "code/new.py").touch(), True, id="an empty new module"),
    pytest.param(lambda at: (at / "code/main.py").unlink(), True, id="a module gone"),
    pytest.param(lambda at: (at / "Dockerfile").write_text("x"), True, id="a changed Dockerfile"),
    pytest.param(
        lambda at: (at / "requirements/demo.txt").write_text("x"), True, id="another version"
    ),
    pytest.param(lambda at: (at / "code/main.pyc").touch(), False, id="what Python compiled"),
    pytest.param(lambda at: (at / "other/main.py").write_text("x"), False, id="another program"),
]


@pytest.mark.parametrize(("change", "is_stale"), CHANGES)
def test_an_image_is_stale_after(
    checkout: Path, change: Callable[[Path], object], is_stale: bool
) -> None:
    before = images.inputs_digest(IMAGE, "base", checkout)
    change(checkout)
    assert (images.inputs_digest(IMAGE, "base", checkout) != before) is is_stale


def test_another_base_makes_every_image_stale(checkout: Path) -> None:
    assert images.inputs_digest(IMAGE, "one", checkout) != images.inputs_digest(
        IMAGE, "other", checkout
    )


def test_an_unknown_image_is_refused_with_those_that_exist() -> None:
    with pytest.raises(Trouble, match=r"no image gateway: name one of operator, serving"):
        images.chosen(["gateway"])


def test_what_builds_images_is_installed_and_what_runs_a_cluster_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed: list[str] = []
    monkeypatch.setattr(packages, "missing", lambda: ["runc", "buildah", "skopeo"])
    monkeypatch.setattr(packages, "install", lambda names, _: installed.extend(names))
    monkeypatch.setattr(checks, "require_root", lambda _: None)
    layout = Layout(home=tmp_path / "home", cache=tmp_path / "cache")
    images.Builder(layout, Progress(io.StringIO()), "").provide_programs()
    assert installed == ["buildah", "skopeo"]


def test_manifests_get_the_names_that_pods_use() -> None:
    tag = "org.opencontainers.image.ref.name"
    index = {
        "schemaVersion": 2,
        "manifests": [
            {"digest": "sha256:b", "annotations": {tag: "1"}},
            {"digest": "sha256:a", "annotations": {tag: "0"}},
        ],
    }
    renamed = handover.renamed(index, ["localhost/a:dev", "localhost/b:dev"])
    assert renamed["schemaVersion"] == 2
    assert {
        m["digest"]: m["annotations"][handover.NAME_ANNOTATION] for m in renamed["manifests"]
    } == {"sha256:a": "localhost/a:dev", "sha256:b": "localhost/b:dev"}


def test_the_mirror_is_that_of_the_suite_not_of_its_updates() -> None:
    listed = (
        "http://mirror/security bookworm-security main\n"
        "http://elsewhere/x bookworm contrib\n"
        "http://mirror/debian bookworm main\n"
    )
    assert base_image.mirror(listed) == "http://mirror/debian"


def test_without_a_mirror_the_remedy_is_another_base() -> None:
    with pytest.raises(Trouble, match="BASE_IMAGE="):
        base_image.mirror("http://mirror/ubuntu noble main\n")
