"""The local cluster's own Go code passes its tests."""

import os
import shutil
import subprocess

import pytest

from trimtab_local import build

pytestmark = pytest.mark.timeout(600)  # a cold cache compiles a client library first


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        pytest.param("node", ["./..."], id="forwards and probe"),
        pytest.param(
            "programs", ["./internal/certs", "./internal/targets"], id="certificates and targets"
        ),
    ],
)
def test_its_go_tests_pass(module: str, packages: list[str]) -> None:
    if shutil.which("go") is None:
        pytest.skip("Go is not installed, and what it made is in the cache")
    # Built as the programs themselves are, so that Go finds everything in its cache.
    environment = os.environ | {"CGO_ENABLED": "0"}
    command = ["go", "test", "-vet=off", "-gcflags", build.NO_DEBUG, *packages]
    done = subprocess.run(
        command,
        cwd=build.SOURCES / module,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
