"""Addresses and credentials."""

import base64
import json
from pathlib import Path

import pytest

from trimtab_oci import Credentials, DockerConfig, InvalidReference, Reference, RegistryForbidden

DIGEST = "sha256:" + "a" * 64

GOOD = {
    "a digest": (f"oci://r:5000/a/b@{DIGEST}", Reference("r:5000", "a/b", None, DIGEST)),
    "a tag": (
        "oci://registry.example.com/a:v1",
        Reference("registry.example.com", "a", "v1", None),
    ),
    "both": (f"oci://r/a:v1@{DIGEST}", Reference("r", "a", "v1", DIGEST)),
    "neither, without a scheme": ("r:5000/a-b/c_d", Reference("r:5000", "a-b/c_d")),
    "an IPv6 host": ("oci://[::1]:5000/a:b", Reference("[::1]:5000", "a", "b")),
}


@pytest.mark.parametrize(("text", "reference"), GOOD.values(), ids=GOOD)
def test_addresses_are_read_and_written(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference
    assert Reference.parse(str(reference)) == reference


BAD = {
    "no path": "oci://r",
    "upper case": "oci://r/A",
    "an empty part": "oci://r/a//b",
    "a short digest": "oci://r/a@sha256:abc",
    "another digest": "oci://r/a@md5:abc",
    "an empty digest": "oci://r/a@",
    "an empty tag": "oci://r/a:",
    "a path that goes up": "oci://r/../a",
    "a query": "oci://r/a?x",
    "another scheme": "https://r/a",
    "a user": "oci://me@r/a",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def config(auths: dict[str, dict[str, str]]) -> DockerConfig:
    return DockerConfig.parse(json.dumps({"auths": auths}))


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:p:w".encode()).decode()}


FOUND = {
    "by host": ({"r:5000": entry("a")}, "r:5000", "x/y", "a"),
    "by address": ({"https://r/v2/": entry("a")}, "r", "x/y", "a"),
    "the longest path wins": (
        {"r": entry("a"), "r/x": entry("b"), "r/x/z": entry("c")},
        "r",
        "x/y",
        "b",
    ),
    "a path is whole parts": ({"r/x": entry("a")}, "r", "xy", None),
    "another host is not meant": ({"r": entry("a")}, "r.example.com", "x", None),
    "Docker Hub's old address": (
        {"https://index.docker.io/v1/": entry("a")},
        "docker.io",
        "library/x",
        "a",
    ),
    "user and password apart": ({"r": {"username": "a", "password": "p"}}, "r", "x", "a"),
    "an entry that leaves it to a helper": ({"r": {}}, "r", "x", None),
}


@pytest.mark.parametrize(("auths", "registry", "repository", "user"), FOUND.values(), ids=FOUND)
def test_credentials_are_found(
    auths: dict[str, dict[str, str]], registry: str, repository: str, user: str | None
) -> None:
    found = config(auths).for_repository(registry, repository)
    assert (found and found.username) == user


def test_a_password_may_hold_a_colon_and_shows_nowhere() -> None:
    found = config({"r": entry("a")}).for_repository("r", "x")
    assert found == Credentials("a", "p:w")
    assert "p:w" not in repr(found)


def test_a_mounted_secret_is_found_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    assert DockerConfig.load(tmp_path / "none").entries == {}
    assert DockerConfig.load(tmp_path).entries == {}
    assert DockerConfig.load(None).entries == {}
    (tmp_path / ".dockerconfigjson").write_text(json.dumps({"auths": {"r": entry("a")}}))
    assert list(DockerConfig.load(tmp_path).entries) == ["r"]
    assert list(DockerConfig.load(tmp_path / ".dockerconfigjson").entries) == ["r"]


@pytest.mark.parametrize("text", ["secret", '{"auths": []}', '{"auths": {"r": {"auth": "???"}}}'])
def test_a_broken_file_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(RegistryForbidden) as caught:
        DockerConfig.parse(text, "/credentials/registry")
    assert "secret" not in str(caught.value)
