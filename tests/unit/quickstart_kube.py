"""kubectl as the demo calls it: what passes by itself is waited for, and nothing else."""

from pathlib import Path

import pytest
from examples.quickstart import kube
from examples.quickstart.kube import CommandFailed, Kube

UNKNOWN = (
    "Error from server (ServiceUnavailable): Resource kind ... not found. There can be a delay"
)
AFTER_A_START = (
    'The finetunejobs "a" is invalid: : ValidatingAdmissionPolicy denied request: failed to configure '
    "policy: failed to find resource referenced by paramKind: 'trimtab.dev/v1alpha1, Kind=ModelVersion'"
)


class Server:
    """kubectl's answers, one after the other."""

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.asked = 0

    def __call__(self, _: Kube, *arguments: str, text: str = "") -> str:
        assert arguments[0] == "apply"
        assert text
        self.asked += 1
        if self.faults:
            raise CommandFailed(self.faults.pop(0))
        return ""


def applied(server: Server, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(Kube, "kubectl", lambda self, *asked, text: server(self, *asked, text=text))
    monkeypatch.setattr("time.sleep", lambda _: None)
    Kube(folder / "kubeconfig", "demo").apply("kind: ConfigMap")


def test_a_kind_that_policies_do_not_know_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = Server(UNKNOWN, AFTER_A_START)
    applied(server, monkeypatch, tmp_path)
    assert server.asked == 3


def test_any_other_refusal_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = Server("Error from server (Invalid): spec.x is wrong")
    with pytest.raises(CommandFailed, match="is wrong"):
        applied(server, monkeypatch, tmp_path)
    assert server.asked == 1


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kube, "_KIND_KNOWN_SECONDS", -1.0)
    server = Server(UNKNOWN)
    with pytest.raises(CommandFailed, match="ServiceUnavailable"):
        applied(server, monkeypatch, tmp_path)
    assert server.asked == 1
