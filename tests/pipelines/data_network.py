"""Sources behind a network: S3, the web with a proxy and a CA of one's own, a hub. All on loopback."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ociserver import FakeRegistry
from tests.pods import Pod, jsonl, pairs
from tests.websites import Authority, Hub, Proxy, Quiet, Website, make_authority, s3_server, serving

from trimtab_api import names
from trimtab_api.reasons import FailureReason

GOOD = jsonl(*pairs(30)).encode()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def pod(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Pod:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "5")
    return Pod(tmp_path, registry, monkeypatch)


def failure(pod: Pod, result: Any) -> tuple[FailureReason, str, int]:
    assert result.failure is not None, result
    return FailureReason(result.failure.reason), result.failure.message, pod.exit_code


# --- S3 ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(authority: Authority) -> Iterator[str]:
    import boto3  # noqa: PLC0415 - heavy

    with s3_server(authority) as address:
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="eu-central-1",
            aws_access_key_id="user",
            aws_secret_access_key="secret",
            verify=str(authority.ca),
        )
        client.create_bucket(
            Bucket="team", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        client.put_object(Bucket="team", Key="tickets/1.jsonl", Body=GOOD)
        client.put_object(Bucket="team", Key="tickets/2.jsonl", Body=jsonl(*pairs(30, 30)).encode())
        client.put_object(Bucket="team", Key="tickets/old/3.jsonl", Body=b"not read")
        for name, data in model_files().items():
            client.put_object(Bucket="team", Key=f"models/tiny/{name}", Body=data)
        client.close()
        yield address


def model_files() -> dict[str, bytes]:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    weights = len(header).to_bytes(8, "little") + header + bytes(4)
    return {"config.json": b"{}", "model.safetensors": weights, "tokenizer.json": b"{}"}


def s3_secret(pod: Pod, address: str, authority: Authority | None, name: str = "source-0") -> None:
    pod.secret(
        name,
        AWS_ACCESS_KEY_ID="user",
        AWS_SECRET_ACCESS_KEY="secret\n",
        AWS_ENDPOINT_URL=address,
        AWS_REGION="eu-central-1",
    )
    if authority:
        pod.file(f"{names.CREDENTIALS_PATH}/{name}/ca.crt", authority.ca.read_bytes())


def test_objects_of_a_store_with_its_own_ca_are_read_by_a_glob(
    pod: Pod, store: str, authority: Authority
) -> None:
    s3_secret(pod, store, authority)
    result = pod.prepare("s3://team/tickets/*.jsonl")
    assert result.records is not None, result
    assert result.records.read == 60


def test_a_model_below_a_prefix_is_mirrored(pod: Pod, store: str, authority: Authority) -> None:
    s3_secret(pod, store, authority, "base")
    result = pod.mirror("s3://team/models/tiny")
    assert result.base is not None, result
    assert pod.pulled(result.base.uri) == model_files()


@pytest.mark.parametrize(
    ("uri", "reason", "message"),
    [
        pytest.param("s3://team/tickets/9.jsonl", "SourceNotFound", "no such object: s3://team/tickets/9.jsonl", id="no such object"),
        pytest.param("s3://team/tickets/*.csv", "SourceNotFound", "no object matches", id="a glob that matches nothing"),
        pytest.param("s3://other/tickets/*.jsonl", "SourceNotFound", "no such bucket", id="no such bucket"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_store_is_said(
    pod: Pod, store: str, authority: Authority, uri: str, reason: str, message: str
) -> None:
    s3_secret(pod, store, authority)
    found = failure(pod, pod.prepare(uri))
    assert found[0] == FailureReason(reason)
    assert message in found[1]


def test_a_store_whose_ca_is_not_known_is_explained(pod: Pod, store: str) -> None:
    s3_secret(pod, store, None)
    reason, message, code = failure(pod, pod.prepare("s3://team/tickets/1.jsonl"))
    assert reason == FailureReason.SOURCE_UNREACHABLE
    assert "put its CA under ca.crt" in message
    assert code == names.EXIT_RETRYABLE


def test_a_store_that_is_away_is_tried_again(pod: Pod) -> None:
    s3_secret(pod, "http://127.0.0.1:1", None)
    reason, message, code = failure(pod, pod.prepare("s3://team/tickets/1.jsonl"))
    assert (reason, code) == (FailureReason.SOURCE_UNREACHABLE, names.EXIT_RETRYABLE)
    assert "http://127.0.0.1:1 cannot be reached" in message


def test_a_store_that_refuses_the_keys_is_explained(pod: Pod) -> None:
    class Refusing(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - the base's name
            self.reply(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>")

        do_HEAD = do_GET  # noqa: N815 - the base's name

    with serving(Refusing) as address:
        s3_secret(pod, f"http://{address}", None)
        for uri in ("s3://team/tickets/1.jsonl", "s3://team/tickets/*.jsonl"):
            reason, message, code = failure(pod, pod.prepare(uri))
            assert (reason, code) == (FailureReason.SOURCE_FORBIDDEN, names.EXIT_USER_ERROR)
            assert "may not be read with these credentials" in message
            assert "secret" not in message


# --- the web ----------------------------------------------------------------------------------------


@pytest.fixture
def site(authority: Authority) -> Iterator[tuple[Website, str]]:
    website = Website(files={"/data/a.jsonl": GOOD})
    with serving(website.handler(), authority) as address:
        yield website, f"https://{address}"


def trust(pod: Pod, authority: Authority) -> None:
    pod.file(f"{names.CREDENTIALS_PATH}/source-0/ca.crt", authority.ca.read_bytes())


def test_a_file_of_the_web_is_read_through_the_proxy_of_the_environment(
    pod: Pod, site: tuple[Website, str], authority: Authority
) -> None:
    trust(pod, authority)
    proxy = Proxy()
    with serving(proxy.handler()) as address:
        pod.environment.setenv("HTTPS_PROXY", f"http://{address}")
        result = pod.prepare(f"{site[1]}/data/a.jsonl?signature=abc")
    assert result.records is not None, result
    assert result.records.read == 30
    assert proxy.tunnels == [site[1].removeprefix("https://")]
    assert site[0].requests == ["/data/a.jsonl?signature=abc"]


def test_what_a_server_compresses_is_unpacked_within_reason(
    pod: Pod, site: tuple[Website, str], authority: Authority
) -> None:
    trust(pod, authority)
    site[0].encoding = "gzip"
    site[0].files = {"/a.jsonl": gzip.compress(GOOD), "/b.jsonl": gzip.compress(bytes(80 << 20))}
    assert pod.prepare(f"{site[1]}/a.jsonl").failure is None
    reason, message, code = failure(pod, pod.prepare(f"{site[1]}/b.jsonl"))
    assert (reason, code) == (FailureReason.UNPACKS_TOO_LARGE, names.EXIT_USER_ERROR)
    assert "serve it as it is" in message


def test_a_server_that_stumbles_is_asked_again(
    pod: Pod, site: tuple[Website, str], authority: Authority
) -> None:
    trust(pod, authority)
    site[0].statuses = [503]
    reason, message, code = failure(pod, pod.prepare(f"{site[1]}/data/a.jsonl?signature=abc"))
    assert (reason, code) == (FailureReason.SOURCE_UNREACHABLE, names.EXIT_RETRYABLE)
    assert "/data/a.jsonl answered 503" in message
    assert "signature" not in message
    assert pod.prepare(f"{site[1]}/data/a.jsonl").failure is None


def test_a_password_opens_a_closed_file(
    pod: Pod, site: tuple[Website, str], authority: Authority
) -> None:
    trust(pod, authority)
    site[0].account = "Basic " + base64.b64encode(b"me:secret").decode()
    reason, message, _ = failure(pod, pod.prepare(f"{site[1]}/data/a.jsonl"))
    assert reason == FailureReason.SOURCE_FORBIDDEN
    assert "name a Secret with username and password" in message
    pod.secret("source-0", username="me", password="secret\n")
    assert pod.prepare(f"{site[1]}/data/a.jsonl").failure is None


def test_a_password_is_for_the_host_that_was_named_alone(
    pod: Pod, site: tuple[Website, str], authority: Authority
) -> None:
    trust(pod, authority)
    pod.secret("source-0", username="me", password="secret")
    site[0].account = "Basic " + base64.b64encode(b"me:secret").decode()
    mirror = Website(files={"/kept/a.jsonl": GOOD})
    with serving(mirror.handler(), authority) as address:
        site[0].redirects["/data/a.jsonl"] = f"https://{address}/kept/a.jsonl"
        result = pod.prepare(f"{site[1]}/data/a.jsonl")
    assert result.failure is None
    assert mirror.logins == [None]


def test_what_is_wrong_with_an_address_is_said(
    pod: Pod, site: tuple[Website, str], authority: Authority
) -> None:
    reason, message, _ = failure(pod, pod.prepare(f"{site[1]}/data/a.jsonl"))
    assert reason == FailureReason.SOURCE_UNREACHABLE
    assert "put its CA under ca.crt" in message
    trust(pod, authority)
    assert failure(pod, pod.prepare(f"{site[1]}/b.jsonl"))[0] == FailureReason.SOURCE_NOT_FOUND
    site[0].redirects["/c.jsonl"] = "http://127.0.0.1:1/c.jsonl"
    plain = Website(files={"/c.jsonl": GOOD})
    with serving(plain.handler()) as address:
        site[0].redirects["/c.jsonl"] = f"http://{address}/c.jsonl"
        reason, message, _ = failure(pod, pod.prepare(f"{site[1]}/c.jsonl"))
    assert reason == FailureReason.SOURCE_FORBIDDEN
    assert "without TLS" in message


def test_a_server_that_is_away_is_tried_again(pod: Pod) -> None:
    reason, message, code = failure(pod, pod.prepare("https://127.0.0.1:1/a.jsonl"))
    assert (reason, code) == (FailureReason.SOURCE_UNREACHABLE, names.EXIT_RETRYABLE)
    assert "check the address, the network and HTTPS_PROXY" in message


# --- the hub ----------------------------------------------------------------------------------------


@pytest.fixture
def hub(authority: Authority, pod: Pod) -> Iterator[Hub]:
    made = Hub(
        commit=COMMIT,
        repositories={
            "datasets/org/pairs": {"data/a.jsonl": GOOD, "README.md": b"x"},
            "models/org/tiny": {
                **model_files(),
                "pytorch_model.bin": b"\x80\x02.",
                "README.md": b"x",
                "onnx/model.onnx": b"x",
            },
            "models/org/old": {"config.json": b"{}", "pytorch_model.bin": b"\x80\x02."},
        },
        large={"model.safetensors"},
    )
    with serving(made.handler(), authority) as address:
        for name in ("source-0", "base"):
            pod.secret(name, HF_ENDPOINT=f"https://{address}")
            pod.file(f"{names.CREDENTIALS_PATH}/{name}/ca.crt", authority.ca.read_bytes())
        yield made


def from_hub(pod: Pod, uri: str, revision: str = COMMIT) -> Any:
    return pod.prepare(sources=[{"uri": uri, "revision": revision}])


def test_a_dataset_of_a_hub_is_read_at_its_commit(pod: Pod, hub: Hub) -> None:
    result = from_hub(pod, "hf://datasets/org/pairs/data/*.jsonl")
    assert result.records is not None, result
    assert result.records.read == 30
    assert hub.downloads == ["data/a.jsonl"]


def test_of_a_model_only_what_makes_it_is_downloaded(pod: Pod, hub: Hub) -> None:
    result = pod.mirror("hf://org/tiny", COMMIT)
    assert result.base is not None, result
    assert pod.pulled(result.base.uri) == model_files()
    assert sorted(hub.downloads) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_model_with_pickled_weights_alone_is_refused_before_they_are_downloaded(
    pod: Pod, hub: Hub
) -> None:
    reason, message, code = failure(pod, pod.mirror("hf://org/old", COMMIT))
    assert (reason, code) == (FailureReason.UNSAFE_FORMAT, names.EXIT_USER_ERROR)
    assert "name a commit with safetensors or convert them" in message
    assert hub.downloads == []


def test_bytes_that_are_not_what_the_hub_lists_are_refused(pod: Pod, hub: Hub) -> None:
    hub.spoils = True
    hub.repositories["models/org/tiny"].pop("tokenizer.json")
    hub.repositories["models/org/tiny"].pop("config.json")
    reason, message, _ = failure(pod, pod.mirror("hf://org/tiny", COMMIT))
    assert reason == FailureReason.DIGEST_MISMATCH
    assert "model.safetensors" in message


@pytest.mark.parametrize(
    ("uri", "revision", "reason", "message"),
    [
        pytest.param("hf://datasets/org/pairs/x.jsonl", COMMIT, "SourceNotFound", "no file that matches x.jsonl", id="no such file"),
        pytest.param("hf://datasets/org/none/x.jsonl", COMMIT, "SourceNotFound", "", id="no such repository"),
        pytest.param("hf://datasets/org/pairs/x.jsonl", "f" * 40, "SourceNotFound", "has no commit ffff", id="no such commit"),
        pytest.param("hf://datasets/org/pairs/x.jsonl", "main", "RevisionMissing", '"main" is not one', id="a branch"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_hub_is_said(
    pod: Pod, hub: Hub, uri: str, revision: str, reason: str, message: str
) -> None:
    found = failure(pod, from_hub(pod, uri, revision))
    assert found[0] == FailureReason(reason)
    assert message in found[1]


def test_a_token_opens_a_closed_repository(pod: Pod, hub: Hub) -> None:
    hub.token = "hf_secret"
    for hub.is_gated in (False, True):
        reason, message, code = failure(pod, from_hub(pod, "hf://datasets/org/pairs/data/a.jsonl"))
        assert (reason, code) == (FailureReason.SOURCE_FORBIDDEN, names.EXIT_USER_ERROR)
        assert "put a token under HF_TOKEN" in message
    pod.secret("source-0", HF_TOKEN="hf_secret")
    assert from_hub(pod, "hf://datasets/org/pairs/data/a.jsonl").failure is None


def test_a_token_is_for_the_hub_alone(pod: Pod, hub: Hub, authority: Authority) -> None:
    hub.token = "hf_secret"
    pod.secret("base", HF_TOKEN="hf_secret")
    store = Website(files={"/model.safetensors": model_files()["model.safetensors"]})
    with serving(store.handler(), authority) as address:
        hub.elsewhere = f"https://{address}"
        result = pod.mirror("hf://org/tiny", COMMIT)
    assert result.failure is None
    assert set(store.logins) == {None}
    assert hub.logins == {"Bearer hf_secret"}


def test_a_token_that_lies_around_on_the_machine_is_not_sent(
    pod: Pod, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_of_somebody_else")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    assert from_hub(pod, "hf://datasets/org/pairs/data/a.jsonl").failure is None
    assert hub.logins == {None}


def test_a_hub_that_is_away_is_tried_again(pod: Pod) -> None:
    pod.secret("source-0", HF_ENDPOINT="http://127.0.0.1:1")
    reason, message, code = failure(pod, from_hub(pod, "hf://datasets/org/pairs/data/a.jsonl"))
    assert (reason, code) == (FailureReason.SOURCE_UNREACHABLE, names.EXIT_RETRYABLE)
    assert "check HF_ENDPOINT" in message


# --- registries of others ---------------------------------------------------------------------------


def test_the_operators_login_is_for_its_own_registry_alone(pod: Pod, authority: Authority) -> None:
    login = base64.b64encode(b"robot:secret").decode()
    theirs = Website(account=f"Basic {login}")
    with serving(theirs.handler(), authority) as address:
        config = json.dumps({"auths": {address: {"auth": login}}})
        for name in ("source-0", "registry"):
            pod.file(f"{names.CREDENTIALS_PATH}/{name}/ca.crt", authority.ca.read_bytes())
        pod.file(f"{names.CREDENTIALS_PATH}/registry/.dockerconfigjson", config)
        reason, message, _ = failure(pod, pod.prepare(f"oci://{address}/team/tickets:1"))
        assert reason == FailureReason.SOURCE_FORBIDDEN
        assert "name a Secret with .dockerconfigjson" in message
        assert set(theirs.logins) == {None}
        pod.file(f"{names.CREDENTIALS_PATH}/source-0/.dockerconfigjson", config)
        pod.prepare(f"oci://{address}/team/tickets:1")
        assert f"Basic {login}" in theirs.logins


def test_only_our_own_registry_may_be_without_tls(pod: Pod) -> None:
    theirs = Website()
    with serving(theirs.handler()) as address:
        reason, _, _ = failure(pod, pod.prepare(f"oci://{address}/team/tickets:1"))
    assert reason == FailureReason.SOURCE_UNREACHABLE
    assert theirs.requests == []
