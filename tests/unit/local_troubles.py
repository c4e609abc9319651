"""What can be wrong with a machine is said in one sentence, with the remedy."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trimtab_local import build, checks, cli, network, packages
from trimtab_local.errors import Trouble
from trimtab_local.layout import Layout, Ports

LAYOUT = Layout(home=Path("/state"), cache=Path("/cache"))


def test_not_being_root_names_sudo() -> None:
    with pytest.raises(Trouble, match=r"only root may make: run this again as root.*sudo"):
        checks.require_root(1000)


def test_another_system_than_linux_names_the_alternative() -> None:
    with pytest.raises(Trouble, match=r"this is Darwin: use a Linux machine.*KUBECONFIG"):
        checks.require_linux("Darwin")


def test_a_missing_compiler_names_its_version() -> None:
    with pytest.raises(Trouble, match=r"Go compiler is not on the PATH.*: install Go 1\.26"):
        build.require_go(which=lambda _: None)


def require(free_gib: float, *needs: checks.Need, disks: tuple[str, ...] = ()) -> None:
    """Folders below the same of `disks` share it."""

    def disk(folder: Path) -> int:
        return next((n for n, root in enumerate(disks) if folder.is_relative_to(root)), -1)

    checks.require_space(needs, free=lambda _: int(free_gib * checks.GIB), disk=disk)


@pytest.mark.parametrize(
    ("free_gib", "need", "expected"),
    [
        pytest.param(
            2, checks.to_run(LAYOUT), r"of /state has 2.0 GiB free, and 3 GiB .*TRIMTAB_LOCAL_HOME",
            id="a disk too small for the state names the variable that moves it",
        ),
        pytest.param(
            4, checks.to_compile(LAYOUT), r"of /cache has 4.0 GiB free, and 10 GiB .*TRIMTAB_CACHE",
            id="one too small to compile names the cache's",
        ),
        pytest.param(
            9, checks.to_hold_images(LAYOUT, 4 * checks.GIB), r"of /state .* and 11 GiB",
            id="one too small for images, which are kept packed and unpacked",
        ),
    ],
)  # fmt: skip
def test_too_little_disk(free_gib: int, need: checks.Need, expected: str) -> None:
    with pytest.raises(Trouble, match=expected):
        require(free_gib, need)
    require(free_gib + need.size / checks.GIB, need)


def test_needs_on_one_disk_add_up_and_those_on_two_do_not() -> None:
    needs = checks.to_run(LAYOUT), checks.to_compile(LAYOUT)
    with pytest.raises(Trouble, match=r"of /state and /cache has 11\.0 GiB free, and 13 GiB"):
        require(11, *needs)
    require(11, *needs, disks=("/state", "/cache"))


def test_a_taken_port_names_the_flag_that_moves_ours() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(Trouble, match=rf"port {taken} .* is taken .*--registry-port"):
            network.open_ports(Ports(api=0, registry=taken, prometheus=0))


def test_the_port_before_a_taken_one_is_given_back() -> None:
    with socket.socket() as other, socket.socket() as free:
        other.bind(("127.0.0.1", 0))
        other.listen()
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
        free.close()
        ports = Ports(api=number, registry=other.getsockname()[1], prometheus=0)
        with pytest.raises(Trouble):
            network.open_ports(ports)
        with socket.socket() as again:
            again.bind(("127.0.0.1", number))


def test_only_packages_that_are_not_there_are_missing() -> None:
    assert packages.missing(is_there=lambda package: package.name != "runc") == ["runc"]


def test_a_trouble_ends_the_command_with_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_LOCAL_HOME", str(tmp_path))
    assert cli.main(["kubeconfig"]) == 1
    told = capsys.readouterr().err
    assert told == "trimtab-local: there is no cluster yet: make one by `trimtab-local up`\n"


def test_an_unknown_log_names_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_LOCAL_HOME", str(tmp_path))
    assert cli.main(["logs", "nonsense"]) == 1
    assert "choose one of api-server, build, containerd" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").touch()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "trimtab_local", "kubeconfig"],
        env=os.environ | {"TRIMTAB_LOCAL_HOME": str(tmp_path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
