"""The local cluster's own Go code passes its tests and Go's own checks."""

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
            "cluster", ["./internal/certs", "./internal/targets"], id="certificates and targets"
        ),
    ],
)
def test_go_is_content(module: str, packages: list[str]) -> None:
    if shutil.which("go") is None:
        pytest.skip("Go is not installed, and what it made is in the cache")
    command = ["go", "test", *packages]
    folder = build.SOURCES / module
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
