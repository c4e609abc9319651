"""Images on a cluster of the user's own: another build is another tag, which nodes have to pull."""

from pathlib import Path

import pytest
from examples.quickstart import target
from examples.quickstart.kube import Kube

REGISTRY = "registry.example.com/team"


class Calls:
    """What would be run: the programs on this machine and helm."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: list[list[str]] = []
        self.charts: list[tuple[str, ...]] = []
        monkeypatch.setattr(target, "_logged", lambda command, *_: self.programs.append(command))
        monkeypatch.setattr(Kube, "helm", lambda _, *arguments: self.charts.append(arguments))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setenv("IMAGE_REGISTRY", REGISTRY)
    monkeypatch.delenv("IMAGE_REGISTRY_HERE", raising=False)
    monkeypatch.delenv("GPUS", raising=False)
    return Calls(monkeypatch)


def built(folder: Path) -> target.Target:
    return target.own("demo", folder / "kubeconfig", folder / "log")


def test_the_chart_gets_the_tag_that_was_pushed(calls: Calls, tmp_path: Path) -> None:
    place = built(tmp_path)
    target.install(place)
    push = calls.programs[0]
    assert push[push.index("--tag") + 1] == place.image_tag
    assert f"images.tag={place.image_tag}" in calls.charts[0]
    assert f"images.repository={REGISTRY}" in calls.charts[0]


@pytest.mark.usefixtures("calls")
def test_the_same_build_has_the_same_tag(tmp_path: Path) -> None:
    assert built(tmp_path).image_tag == built(tmp_path).image_tag


@pytest.mark.usefixtures("calls")
def test_another_build_has_another_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = built(tmp_path).image_tag
    monkeypatch.setattr(target, "inputs_digest", lambda image, _: f"changed {image.name}")
    assert built(tmp_path).image_tag != before


def test_with_gpus_the_engine_for_cpus_is_not_pushed(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path)
    monkeypatch.setenv("GPUS", "1")
    built(tmp_path)
    assert [target.CPU_ENGINE in command for command in calls.programs] == [True, False]
