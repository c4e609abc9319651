"""The routing table: who gets requests, and what keeps a version from getting any."""

from dataclasses import dataclass, field, replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_api.routing import AdapterState, AgentReport, RoutedVersion, RoutingTable
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_operator.domain.inferenceservice.loads import EnginePod
from trimtab_operator.domain.inferenceservice.routes import Base, Routing
from trimtab_operator.domain.inferenceservice.routing import active_version, route

BASE_DIGEST = "sha256:" + "b" * 64
OTHER_BASE = "sha256:" + "c" * 64
BASE = Base("tiny-base-1", BASE_DIGEST, f"oci://registry/base@{BASE_DIGEST}")


def digest_of(name: str) -> str:
    return "sha256:" + (name.encode().hex() * 64)[:64]


@cache
def a_version(
    name: str,
    *,
    ready: bool = True,
    base: str = BASE_DIGEST,
    rank: int = 8,
    kind: str = "Adapter",
    created: str = "2026-01-01T00:00:00Z",
    model: str = "bot",
    deleting: bool = False,
) -> ModelVersion:
    return ModelVersion.model_validate(
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "creationTimestamp": created,
                "deletionTimestamp": created if deleting else None,
            },
            "spec": {
                "model": model,
                "artifact": {
                    "uri": f"oci://registry/{name}@{digest_of(name)}",
                    "kind": kind,
                    "rank": rank,
                },
                "baseModel": {"uri": f"oci://registry/base@{base}"},
            },
            "status": {
                "baseDigest": base,
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True" if ready else "False",
                        "reason": "Ready" if ready else "GateFailed",
                        "message": "" if ready else "RougeL 0.1 is below 0.3",
                        "lastTransitionTime": created,
                    }
                ],
            },
        }
    )


@cache
def a_service(version: str | None = None, latest_of: str | None = None) -> InferenceService:
    selector = {"name": version} if version else {"latestOf": latest_of}
    return InferenceService.model_validate(
        {
            "metadata": {"name": "chat", "namespace": "ns", "uid": "u"},
            "spec": {
                "baseModel": {"name": "tiny", "uri": BASE.uri},
                "engine": {"adapters": {"maxRank": 16}},
                "models": [{"name": "bot", "version": selector}],
            },
        }
    )


def says(name: str, *states: AdapterState, ready: bool = True) -> EnginePod:
    return EnginePod(
        name, f"{name}:8000", AgentReport(sequence=1, engine_ready=ready, adapters=list(states))
    )


def state(name: str, state: str = "Loaded", **more: str) -> AdapterState:
    return AdapterState(version=name, digest=digest_of(name), state=state, **more)


def table(*versions: tuple[str, int], base: str = BASE_DIGEST) -> RoutingTable:
    return RoutingTable.model_validate(
        {
            "namespace": "ns",
            "service": "chat",
            "baseDigest": base,
            "models": [
                {
                    "name": "bot",
                    "versions": [
                        {
                            "version": n,
                            "digest": digest_of(n),
                            "kind": "Adapter",
                            "uri": f"oci://registry/{n}@{digest_of(n)}",
                            "rank": 8,
                            "weight": w,
                        }
                        for n, w in versions
                    ],
                }
            ],
        }
    )


def weights(routing: Routing) -> dict[str, int]:
    bot = next(m for m in routing.table.models if m.name == "bot")
    return {v.version: v.weight for v in bot.versions}


@dataclass(frozen=True)
class Case:
    name: str
    then: dict[str, int]
    reason: str | None = None
    service: InferenceService = field(default_factory=lambda: a_service("v2"))
    versions: tuple[ModelVersion, ...] = field(
        default_factory=lambda: (a_version("v1"), a_version("v2"))
    )
    engines: tuple[EnginePod, ...] = field(default_factory=lambda: (says("e1", state("v1")),))
    previous: RoutingTable | None = field(default_factory=lambda: table(("v1", 100)))


CASES = [
    Case("a first version is loaded before it gets requests", {"v2": 0}, "Loading", previous=None),
    Case("a successor is loaded while the old one serves", {"v1": 100, "v2": 0}, "Loading"),
    Case(
        "loaded on one engine of two is not loaded",
        {"v1": 100, "v2": 0},
        "Loading",
        engines=(says("e1", state("v2")), says("e2", state("v2", "Loading"))),
    ),
    Case(
        "an engine that has not reported yet is waited for",
        {"v1": 100, "v2": 0},
        "AgentSilent",
        engines=(says("e1", state("v2")), EnginePod("e2", "e2:8000")),
    ),
    Case(
        "an engine that says it is down is not waited for",
        {"v2": 100, "v1": 0},
        engines=(says("e1", state("v2")), says("e2", ready=False)),
    ),
    Case(
        "loaded on every engine, it gets all requests and the old one stays at hand",
        {"v2": 100, "v1": 0},
        engines=(says("e1", state("v2")), says("e2", state("v2"))),
        previous=table(("v1", 100), ("v2", 0)),
    ),
    Case(
        "the way back needs no load",
        {"v1": 100, "v2": 0},
        service=a_service("v1"),
        engines=(says("e1", state("v1"), state("v2")),),
        previous=table(("v2", 100), ("v1", 0)),
    ),
    Case(
        "a third version takes the place of the one that is only at hand",
        {"v2": 100, "v3": 0},
        "Loading",
        service=a_service("v3"),
        versions=(a_version("v1"), a_version("v2"), a_version("v3")),
        engines=(says("e1", state("v1"), state("v2")),),
        previous=table(("v2", 100), ("v1", 0)),
    ),
    Case(
        "a version that fails to load leaves the old one serving and says why",
        {"v1": 100, "v2": 0},
        "FingerprintMismatch",
        engines=(
            says(
                "e1", state("v1"), state("v2", "Failed", reason="FingerprintMismatch", message="x")
            ),
        ),
        previous=table(("v1", 100), ("v2", 0)),
    ),
    Case(
        "a missing version leaves the old one serving",
        {"v1": 100},
        "VersionMissing",
        versions=(a_version("v1"),),
    ),
    Case(
        "a version that is not Ready leaves the old one serving",
        {"v1": 100},
        "VersionNotReady",
        versions=(a_version("v1"), a_version("v2", ready=False)),
    ),
    Case(
        "an adapter of another base leaves the old one serving",
        {"v1": 100},
        "BaseMismatch",
        versions=(a_version("v1"), a_version("v2", base=OTHER_BASE)),
    ),
    Case(
        "a rank above the engines' leaves the old one serving",
        {"v1": 100},
        "RankTooHigh",
        versions=(a_version("v1"), a_version("v2", rank=17)),
    ),
    Case(
        "a full version is no adapter",
        {"v1": 100},
        "NotAnAdapter",
        versions=(a_version("v1"), a_version("v2", kind="Full")),
    ),
    Case(
        "a version that is being deleted is not begun with",
        {"v1": 100},
        "VersionDeleted",
        versions=(a_version("v1"), a_version("v2", deleting=True)),
    ),
    Case(
        "what is served goes on when its version is gone",
        {"v1": 100},
        "VersionMissing",
        service=a_service("v1"),
        versions=(),
    ),
    Case("no engine, no change", {"v1": 100, "v2": 0}, "NoEngineReady", engines=()),
    Case(
        "the newest Ready version is the one that was created last",
        {"v1": 100, "v2": 0},
        "Loading",
        service=a_service(latest_of="bot"),
        versions=(
            a_version("v1"),
            a_version("v2", created="2026-02-01T00:00:00Z"),
            a_version("v3", created="2026-03-01T00:00:00Z", ready=False),
            a_version("v4", created="2026-04-01T00:00:00Z", model="other"),
        ),
    ),
    Case(
        "of two that were created together the later name wins",
        {"v1": 100, "v2": 0},
        "Loading",
        service=a_service(latest_of="bot"),
    ),
    Case(
        "no Ready version of a model leaves the old one serving",
        {"v1": 100},
        "NoReadyVersion",
        service=a_service(latest_of="bot"),
        versions=(a_version("v1", ready=False),),
    ),
    Case(
        "a version at hand is let go when it is deleted",
        {"v2": 100},
        versions=(a_version("v2"),),
        engines=(says("e1", state("v2")),),
        previous=table(("v2", 100), ("v1", 0)),
    ),
    Case(
        "adapters of another base are not carried over",
        {"v2": 0},
        "Loading",
        previous=table(("v1", 100), base=OTHER_BASE),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_routing(case: Case) -> None:
    routing = _route(case)
    assert weights(routing) == case.then
    finding = routing.models[1].finding
    assert (finding.reason if finding else None) == case.reason


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_deciding_again_on_the_new_table_changes_nothing(case: Case) -> None:
    once = _route(case)
    again = route(
        case.service, BASE, {v.metadata.name: v for v in case.versions}, case.engines, once.table
    )
    assert again.table == once.table


def test_the_base_answers_under_its_own_name() -> None:
    routing = _route(CASES[0])
    base = routing.table.models[0]
    assert base.name == "tiny"
    assert [(v.digest, v.weight) for v in base.versions] == [(BASE_DIGEST, 100)]


def test_a_version_that_cannot_be_told_from_its_base_is_served_and_said() -> None:
    told = state("v2", reason="Indistinguishable", message="answers like its base")
    routing = _route(Case("", {}, engines=(says("e1", told),)))
    assert weights(routing) == {"v2": 100, "v1": 0}
    assert routing.models[1].note == "answers like its base"


def _route(case: Case) -> Routing:
    return route(
        case.service,
        BASE,
        {v.metadata.name: v for v in case.versions},
        case.engines,
        case.previous,
    )


# --- properties over random histories -----------------------------------------------------------

NAMES = ("v1", "v2", "v3")
states = st.sampled_from(["Pending", "Loading", "Loaded", "Failed"])
reports = st.dictionaries(st.sampled_from(NAMES), states)


@st.composite
def moments(draw: st.DrawFn) -> tuple[InferenceService, dict[str, ModelVersion], list[EnginePod]]:
    """A wish, the versions that there are, and what up to three engines say."""
    asked = draw(st.sampled_from([*NAMES, None]))
    service = a_service(asked) if asked else a_service(latest_of="bot")
    versions = {
        n: a_version(n, ready=draw(st.booleans()), rank=draw(st.sampled_from([8, 17])))
        for n in NAMES
        if draw(st.booleans())
    }
    engines = []
    for i in range(draw(st.integers(0, 3))):
        said = draw(st.none() | reports)
        ready = draw(st.booleans())
        engines.append(
            EnginePod(f"e{i}", f"e{i}:8000")
            if said is None
            else says(f"e{i}", *(state(n, s) for n, s in said.items()), ready=ready)
        )
    return service, versions, engines


@given(st.lists(moments(), min_size=1, max_size=6))
def test_weights_sum_to_a_hundred_wherever_a_version_is_active(
    history: list[tuple[InferenceService, dict[str, ModelVersion], list[EnginePod]]],
) -> None:
    current: RoutingTable | None = None
    for service, versions, engines in history:
        routing = route(service, BASE, versions, engines, current)
        current = routing.table
        for explained, routed in zip(routing.models, current.models, strict=True):
            total = sum(v.weight for v in routed.versions)
            assert total == (100 if explained.active else 0)
            assert len(routed.versions) <= 2


@given(st.lists(moments(), min_size=1, max_size=6))
def test_a_version_takes_over_only_when_every_ready_engine_has_loaded_it(
    history: list[tuple[InferenceService, dict[str, ModelVersion], list[EnginePod]]],
) -> None:
    current: RoutingTable | None = None
    for service, versions, engines in history:
        before = _active(current)
        routing = route(service, BASE, versions, engines, current)
        current = routing.table
        after = _active(current)
        if after == before:
            continue
        assert after is not None, "an active version was lost"
        ready = [e for e in engines if e.report is None or e.report.engine_ready]
        assert ready
        for engine in ready:
            assert engine.report is not None
            assert any(
                (a.version, a.state) == (after.version, "Loaded") for a in engine.report.adapters
            )


def _active(current: RoutingTable | None) -> RoutedVersion | None:
    bot = next((m for m in current.models if m.name == "bot"), None) if current else None
    found = active_version(bot)
    return found.model_copy(update={"report": None, "rank": None}) if found else None


def test_the_table_tells_agents_where_the_signature_is() -> None:
    signature = {"bundle": f"oci://registry/bot@{digest_of('sig')}", "signer": "ab" * 32}
    wire = a_version("bot-1").model_dump(mode="json", by_alias=True)
    wire["status"]["signature"] = signature
    versions = {"bot-1": ModelVersion.model_validate(wire)}
    made = route(a_service("bot-1"), BASE, versions, [says("e1")], None)
    assert [v.signature for v in made.table.models[1].versions] == [signature["bundle"]]


def test_what_an_agent_refuses_for_its_signature_stands_behind_the_version_that_is_good() -> None:
    versions = {name: a_version(name) for name in ("bot-1", "bot-2")}
    refused = state("bot-2", "Failed", reason="SignerUnknown", message="the key 5a is not trusted")
    made = route(
        a_service("bot-2"),
        BASE,
        versions,
        [says("e1", state("bot-1"), refused)],
        table(("bot-1", 100)),
    )
    model = made.models[1]
    assert (model.active, model.candidate) == ("bot-1", "bot-2")
    assert model.finding is not None
    assert model.finding.reason == "SignerUnknown"


def demanding(version: str, **policy: str) -> InferenceService:
    wire = a_service(version).model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["spec"]["signatures"] = {"trust": {"name": "signers"}, **policy}
    return InferenceService.model_validate(wire)


@pytest.mark.parametrize(
    ("verifies", "active"),
    [
        pytest.param((True, True), "bot-2", id="all engines verify"),
        pytest.param((True, False), "bot-1", id="one began before signatures were demanded"),
        pytest.param((False, False), "bot-1", id="their release knows no signatures"),
    ],
)
def test_a_version_counts_only_where_every_engine_has_verified_it(
    verifies: tuple[bool, bool], active: str
) -> None:
    versions = {name: a_version(name) for name in ("bot-1", "bot-2")}
    engines = []
    for number, each in enumerate(verifies):
        pod = says(f"e{number}", state("bot-1"), state("bot-2"))
        assert pod.report is not None
        report = pod.report.model_copy(update={"verifies_signatures": each})
        engines.append(EnginePod(pod.name, pod.address, report))
    made = route(demanding("bot-2"), BASE, versions, engines, table(("bot-1", 100)))
    model = made.models[1]
    assert model.active == active
    said = model.finding.message if model.finding else ""
    assert ("engine-release" in said) is (active == "bot-1")


SIGNED_BASE = replace(
    BASE, report="oci://registry/base:report", signature="oci://registry/base:sig"
)


def base_state(state: str = "Loaded", **more: str) -> AdapterState:
    return AdapterState(version=BASE.version, digest=BASE.digest, state=state, **more)


@pytest.mark.parametrize(
    ("verifies", "base", "active", "says_of_base"),
    [
        pytest.param(True, base_state(), "bot-2", None, id="the engine has verified the base"),
        pytest.param(
            False, base_state(), "bot-1", "SignaturesNotVerified", id="it looks at adapters alone"
        ),
        pytest.param(
            True,
            base_state("Failed", reason="SignerUnknown", message="the key 5a is not trusted"),
            "bot-2",
            "SignerUnknown",
            id="the base is refused",
        ),
    ],
)
def test_where_the_base_must_be_signed_engines_say_whether_it_is(
    verifies: bool, base: AdapterState, active: str, says_of_base: str | None
) -> None:
    versions = {name: a_version(name) for name in ("bot-1", "bot-2")}
    pod = says("e1", base, state("bot-1"), state("bot-2"))
    assert pod.report is not None
    report = pod.report.model_copy(update={"verifies_signatures": True, "verifies_base": verifies})
    engines = [replace(pod, report=report)]
    service = demanding("bot-2", covers="AdaptersAndBase")
    made = route(service, SIGNED_BASE, versions, engines, table(("bot-1", 100)))
    (routed_base,) = made.table.models[0].versions
    assert (routed_base.report, routed_base.signature) == (SIGNED_BASE.report, SIGNED_BASE.signature)  # fmt: skip
    finding = made.models[0].finding
    assert (finding.reason if finding else None) == says_of_base
    assert made.models[1].active == active


def test_where_adapters_alone_must_be_signed_nobody_is_asked_about_the_base() -> None:
    versions = {"bot-1": a_version("bot-1")}
    made = route(demanding("bot-1"), SIGNED_BASE, versions, [says("e1", state("bot-1"))], None)
    assert made.models[0].finding is None
    assert made.table.models[0].versions[0].report is None
