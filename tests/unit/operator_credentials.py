"""As whom the operator comes in a pod, and what is not loaded for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.websites import make_authority
from tests.wireserver import OK, says, serving

from trimtab_operator.adapters import credentials
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.credentials import ServiceAccount
from trimtab_operator.adapters.wire import Wire
from trimtab_operator.domain.errors import ClusterUnreachable

# What a replica needs in a pod. Each package more is paid for in every replica's memory and start.
PACKAGES = {
    *("aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "frozenlist", "idna", "multidict"),
    *("propcache", "yarl", "httptools", "orjson", "prometheus_client"),
    *("iso8601", "jsonpatch", "jsonpointer", "kopf", "pythonjsonlogger", "yaml"),
    *("annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"),
    *("trimtab_api", "trimtab_oci", "trimtab_operator", "cython_runtime"),
}
LOADED = """
import sys
before = set(sys.modules)
import trimtab_operator.__main__
packages = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*(each for each in packages if not each.startswith("_") and each not in sys.stdlib_module_names))
"""


def a_pod(folder: Path, **environment: str) -> ServiceAccount:
    make_authority(folder)
    (folder / "token").write_text("first\n")
    return ServiceAccount(folder, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", **environment})


def test_in_a_pod_nothing_is_loaded_that_is_not_needed_there() -> None:
    command = [sys.executable, "-c", LOADED]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=paths).stdout
    assert set(found.split()) - PACKAGES == set()


async def test_a_pod_meets_the_server_that_its_certificate_is_for(tmp_path: Path) -> None:
    made = make_authority(tmp_path)
    (tmp_path / "token").write_text("first\n")
    async with serving(says(OK), made.context()) as found:
        here = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(found.port),
        }
        known = ServiceAccount(tmp_path, here).credentials()
        api = Api(known, Wire(known.place))
        await api.request("GET", "/x")
        await api.close()
    assert found.requests[0].headers["Authorization"] == "Bearer first"


async def test_a_token_that_is_replaced_in_its_file_is_used_a_minute_later(tmp_path: Path) -> None:
    clock = [0.0]
    make_authority(tmp_path)
    account = ServiceAccount(tmp_path, {}, lambda: clock[0])
    token = tmp_path / "token"
    said: list[str] = []
    for moment, content in ((0.0, "first\n"), (59.0, "second\n"), (60.0, "second\n")):
        clock[0] = moment
        token.write_text(content)
        said.append(await account.authorization())
    assert said == ["Bearer first", "Bearer first", "Bearer second"]


async def test_a_token_is_kept_while_its_file_is_away(tmp_path: Path) -> None:
    clock = [0.0]
    account = ServiceAccount(tmp_path, {}, lambda: clock[0])
    with pytest.raises(ClusterUnreachable, match="token of the service account cannot be read"):
        await account.authorization()
    (tmp_path / "token").write_text("first\n")
    assert await account.authorization() == "Bearer first"
    (tmp_path / "token").unlink()
    clock[0] = 3600.0
    assert await account.authorization() == "Bearer first"


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "https://127.0.0.1:443"),
        ({"KUBERNETES_SERVICE_PORT": "6443"}, "https://127.0.0.1:6443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1"}, "https://[fd00::1]:443"),
    ],
    ids=["no port", "a port", "an IPv6 address"],
)
def test_the_address_is_the_one_that_the_kubelet_says(
    tmp_path: Path, environment: dict[str, str], url: str
) -> None:
    assert a_pod(tmp_path, **environment).credentials().place.url == url


async def test_a_pod_without_a_service_account_asks_for_a_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ServiceAccount(tmp_path, {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}).is_there
    assert a_pod(tmp_path).is_there
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        '{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],'
        ' "clusters": [{"name": "c", "cluster": {"server": "http://elsewhere:1"}}],'
        ' "users": [{"name": "u", "user": {"token": "mine"}}]}'
    )
    known = await credentials.found(str(kubeconfig))
    assert (known.place.url, await known.authorization()) == ("http://elsewhere:1", "Bearer mine")
