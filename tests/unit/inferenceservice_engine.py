"""Small rules about engines: ranks, rollouts, what is kept."""

import signal
import subprocess
import sys

import pytest
from tests.fakes import settings
from tests.registries import free_port
from tests.servingbuilders import a_service, digest_of, uri_of

from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.engine import Engine
from trimtab_operator.domain.inferenceservice.engine import (
    FIRST_PROCESS,
    EnginePlan,
    deployment,
    release,
    strategy,
    supported_rank,
)
from trimtab_operator.domain.inferenceservice.network import url
from trimtab_operator.domain.inferenceservice.routes import Base
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.settings import Exposure, ExposureKind
from trimtab_serving.settings import AgentSettings


@pytest.mark.parametrize(
    ("rank", "supported"), [(1, 8), (8, 8), (9, 16), (48, 64), (257, 320), (321, 512), (512, 512)]
)
def test_a_rank_is_rounded_up_to_one_that_vllm_has_kernels_for(rank: int, supported: int) -> None:
    assert supported_rank(rank) == supported


@pytest.mark.parametrize(
    ("gpus", "count", "surge", "unavailable"),
    [
        pytest.param(0, 1, 1, 0, id="on CPUs a new engine comes first"),
        pytest.param(0, 3, 1, 0, id="on CPUs a new engine comes first, of several too"),
        pytest.param(1, 1, 1, 0, id="a single engine with a GPU never goes first"),
        pytest.param(1, 2, 0, 1, id="of several engines with GPUs one lends its GPUs"),
    ],
)
def test_rollout(gpus: int, count: int, surge: int, unavailable: int) -> None:
    engine = a_service(engine={"gpus": gpus}).spec.engine
    update = strategy(engine, count)["rollingUpdate"]
    assert update == {"maxSurge": surge, "maxUnavailable": unavailable}


HEARS = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
LISTENS = "import socket, sys; heard = socket.create_server(('127.0.0.1', int(sys.argv[1])))"
WAITS = "import time; print('up', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("program", "told", "code"),
    [
        pytest.param((WAITS,), True, 128 + signal.SIGKILL, id="one that has no handler yet ends"),
        pytest.param(
            (HEARS, WAITS), True, 128 + signal.SIGKILL, id="one that starts is not asked to finish"
        ),
        pytest.param(
            (LISTENS, HEARS, WAITS),
            True,
            7,
            id="one that listens ends by itself, and is waited for",
        ),
        pytest.param(
            (LISTENS, WAITS), True, 128 + signal.SIGTERM, id="one that listens hears the signal"
        ),
        pytest.param(("print('up'); exit(3)",), False, 3, id="an end of its own is told as it was"),
    ],
)
def test_the_first_process_hands_the_word_to_end_on(
    program: tuple[str, ...], told: bool, code: int
) -> None:
    port = free_port()
    started = [sys.executable, "-c", "\n".join(program), str(port)]
    command = ["sh", "-c", FIRST_PROCESS, "engine", f"{port:04X}", *started]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "up\n"
        if told:
            first.send_signal(signal.SIGTERM)
        assert first.wait(20) == code


@pytest.mark.parametrize(
    ("exposure", "address"),
    [
        pytest.param(Exposure(), "http://my-chat.ns.svc", id="inside of the cluster"),
        pytest.param(
            Exposure(kind=ExposureKind.INGRESS, host="{name}.x.org"),
            "http://my-chat.x.org",
            id="an Ingress without TLS",
        ),
        pytest.param(
            Exposure(kind=ExposureKind.INGRESS, host="{name}-{namespace}.x.org", tls_secret="t"),
            "https://my-chat-ns.x.org",
            id="an Ingress with TLS",
        ),
        pytest.param(
            Exposure(kind=ExposureKind.ROUTE, host="{name}.x.org"),
            "https://my-chat.x.org",
            id="a Route",
        ),
    ],
)
def test_address(exposure: Exposure, address: str) -> None:
    assert url(a_service(name="my.chat"), settings(exposure=exposure)) == address


class LaterEngine(Engine):
    """As a later release may know it."""

    watts: int = 300


def engines_of(service: InferenceService, present: Manifest | None) -> Manifest:
    base = Base("tiny", digest_of("base"), uri_of("base"))
    images = settings()
    return deployment(EnginePlan(service, base, release(service, images), images), present)


@pytest.mark.parametrize(
    ("wish", "is_kept"),
    [
        pytest.param({}, True, id="a field that a release adds starts no engine anew"),
        pytest.param({"watts": 300}, True, id="nor does its default in words"),
        pytest.param({"watts": 400}, False, id="but a wish does"),
    ],
)
def test_what_an_operator_knows_more_is_no_wish(wish: Manifest, is_kept: bool) -> None:
    service = a_service()
    before = engines_of(service, None)
    later = LaterEngine.model_validate({**service.spec.engine.to_wire(), **wish})
    spec = service.spec.model_copy(update={"engine": later})
    after = engines_of(service.model_copy(update={"spec": spec}), before)
    assert (after["metadata"] == before["metadata"]) == is_kept


def test_agents_are_told_whose_certificates_count() -> None:
    anybody = engines_of(a_service(signatures={"trust": {"name": "signers"}}), None)
    policy = {"trust": {"name": "signers"}, "certificateSubjects": ["CN=release,O=Example"]}
    named = engines_of(a_service(signatures=policy), anybody)
    assert anybody["metadata"]["annotations"] != named["metadata"]["annotations"], "engines move"
    agent = named["spec"]["template"]["spec"]["containers"][0]
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    environment |= {e["name"]: e["value"] for e in agent["env"] if "value" in e}
    assert AgentSettings.of(environment).trusted_subjects == ("CN=release,O=Example",)


def test_a_service_that_demands_signatures_shows_its_agents_whom_to_trust() -> None:
    plain, strict = a_service(), a_service(signatures={"trust": {"name": "signers"}})
    before = engines_of(plain, None)
    after = engines_of(strict, before)
    assert before["metadata"]["annotations"] != after["metadata"]["annotations"], "engines move"
    spec = after["spec"]["template"]["spec"]
    trust = {"name": "trust", "configMap": {"name": "signers", "optional": True}}
    assert trust in spec["volumes"]
    agent, engine = spec["containers"][0], spec["initContainers"][0]
    assert {"name": "TRIMTAB_TRUST", "value": "/trusted-signers"} in agent["env"]
    assert {"name": "trust", "mountPath": "/trusted-signers", "readOnly": True} in agent[
        "volumeMounts"
    ]
    assert "trust" not in {mount["name"] for mount in engine["volumeMounts"]}
    assert "trust" not in {
        volume["name"] for volume in before["spec"]["template"]["spec"]["volumes"]
    }


def test_agents_see_the_base_where_its_signature_counts() -> None:
    policy = {"trust": {"name": "signers"}}
    adapters = engines_of(a_service(signatures=policy), None)
    base = {"name": "base", "modelVersion": {"name": "tiny-1"}}
    service = a_service(base=base, signatures={**policy, "covers": "AdaptersAndBase"})
    both = engines_of(service, adapters)
    assert adapters["metadata"]["annotations"] != both["metadata"]["annotations"], "engines move"
    agents = [e["spec"]["template"]["spec"]["containers"][0] for e in (adapters, both)]
    mounts = [{m["name"]: m["mountPath"] for m in agent["volumeMounts"]} for agent in agents]
    assert [m.get("base") for m in mounts] == [None, "/models/base"]
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    environment |= {e["name"]: e["value"] for e in agents[1]["env"] if "value" in e}
    assert str(AgentSettings.of(environment).signed_base) == "/models/base"
