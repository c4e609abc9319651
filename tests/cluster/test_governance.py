"""Decisions, authors and policies on a real API server: who is refused what, under real users and the chart's roles.

alice makes models and services, bob approves, carol may do both, dave only works here. The namespace asks for
approvals and separates duties; the operator is the real one.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests import builders
from tests.builders import Manifest
from tests.operatorkit import (
    ROOT,
    OperatorProcess,
    Server,
    eventually,
    running_operator,
    server_alone,
)

from trimtab_local.layout import layout_from

pytestmark = pytest.mark.timeout(180)

JOB, VERSION, SERVICE, DECISION = "FineTuneJob", "ModelVersion", "InferenceService", "Decision"
ALICE, BOB, CAROL, DAVE = "alice", "bob", "carol", "dave"
ROLES = {
    ALICE: ("view", "edit"),
    BOB: ("view", "approver"),
    CAROL: ("view", "edit", "approver"),
    DAVE: ("view", "edit"),
}
ASKED = {"trimtab.dev/require-approval": "true", "trimtab.dev/separation-of-duties": "true"}
AUTHOR = "trimtab.dev/author"
BASE, BOT = "tiny-base-cccccccc", "support-bot-aaaaaaaa"
PROGRAMS = layout_from({}).programs
RELEASE = f"governed-{uuid.uuid4().hex[:6]}"
# Nothing answers there: versions need not be Ready to be decided about.
REGISTRY = "127.0.0.1:9/trimtab"


def run(*command: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


class Governed:
    """A namespace in which the chart's policies hold, and the people who work in it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.namespace = server.namespace

    def kubectl(self, *arguments: str, by: str = "", text: str = "") -> str:
        done = self._kubectl(f"--namespace={self.namespace}", *arguments, by=by, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, how: str, manifests: str) -> None:
        """The chart's objects, wherever they belong."""
        done = self._kubectl(how, "-f", "-", by="", text=manifests)
        assert done.returncode == 0, done.stderr

    def refusal(self, by: str, manifest: Manifest, how: str = "create") -> str:
        """What somebody is told; empty where the API server takes it."""
        done = self._kubectl(how, "-f", "-", by=by, text=json.dumps(self._here(manifest)))
        is_the_servers = "Error from server" in done.stderr or " is invalid: " in done.stderr
        assert done.returncode == 0 or is_the_servers, done.stderr
        return done.stderr if done.returncode else ""

    def refusal_of_change(self, by: str, what: str, changes: Manifest) -> str:
        done = self._kubectl(
            "patch",
            f"--namespace={self.namespace}",
            what,
            "--type=merge",
            "-p",
            json.dumps(changes),
            by=by,
        )
        return done.stderr if done.returncode else ""

    def decides(
        self, by: str, action: str, version: str = BOT, digest: str = builders.DIGEST
    ) -> str:
        """Somebody decides; returns the Decision's name."""
        name = f"{action.lower()}-{uuid.uuid4().hex[:6]}"
        target = {"kind": VERSION, "name": version, "digest": digest}
        assert self.refusal(by, builders.decision(name, action=action, target=target, by=by)) == ""
        return name

    def author(self, kind: str, name: str) -> str | None:
        annotations = self.server.get(kind, name)["metadata"].get("annotations", {})
        found: str | None = annotations.get(AUTHOR)
        return found

    def _here(self, manifest: Manifest) -> Manifest:
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": self.namespace}}

    def _kubectl(
        self, *arguments: str, by: str, text: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        command = [str(PROGRAMS / "kubectl"), f"--kubeconfig={self.server.kubeconfig}"]
        command += [f"--as={by}"] if by else []
        return run(*command, *arguments, text=text)


def rendered(namespace: str) -> str:
    done = run(
        *(
            str(PROGRAMS / "helm"),
            "template",
            f"{RELEASE}-trimtab",
            str(ROOT / "charts" / "trimtab"),
        ),
        *(f"--namespace={RELEASE}", f"--values={ROOT / 'charts/trimtab/ci/local-values.yaml'}"),
        "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
        f"--set=watchNamespaces={{{namespace}}},serviceAccount.create=false,serviceAccount.name=default",
        *("--show-only=templates/admission.yaml", "--show-only=templates/rbac.yaml"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def governed() -> Iterator[Governed]:
    with server_alone() as server:
        found = Governed(server)
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            found.kubectl(
                *("apply", "--server-side", "--field-manager=helm", "--force-conflicts"),
                *("-f", str(path)),
            )
        server.core.patch_namespace(server.namespace, {"metadata": {"labels": ASKED}})
        found.kubectl("create", "namespace", RELEASE)
        policies = rendered(server.namespace)
        found.install("apply", policies)
        for who, roles in ROLES.items():
            for role in roles:
                found.kubectl(
                    *("create", "rolebinding", f"{who}-{role}", f"--user={who}"),
                    f"--clusterrole={RELEASE}-{RELEASE}-trimtab-{role}",
                )
        try:
            _wait_until_in_force(found)
            yield found
        finally:
            found.install("delete", policies)
            found.kubectl("delete", "namespace", RELEASE, "--wait=false")


def _wait_until_in_force(governed: Governed) -> None:
    """Policies reach the API server's cache one after the other; what is made for this is made in nobody's name."""
    foreign = builders.decision("probe", by="nobody")
    eventually(lambda: "spec.by" in governed.refusal(BOB, foreign))
    by_nobody = builders.with_metadata(builders.full_version(), annotations={AUTHOR: "nobody"})
    eventually(lambda: AUTHOR in governed.refusal(ALICE, by_nobody))
    governed.server.clear(DECISION, VERSION)
    eventually(lambda: _noted_author(governed) == ALICE)


def _noted_author(governed: Governed) -> str | None:
    """Of a version that is made for this alone."""
    made = json.dumps(builders.full_version("probe", governed.namespace))
    governed.kubectl("create", "-f", "-", by=ALICE, text=made)
    author = governed.author(VERSION, "probe")
    governed.server.clear(VERSION)
    return author


@pytest.fixture(scope="module", autouse=True)
def operator(
    governed: Governed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    with running_operator(governed.server, folder, REGISTRY) as process:
        yield process


@pytest.fixture(autouse=True)
def tidy(governed: Governed) -> Iterator[None]:
    yield
    governed.server.clear(SERVICE, JOB, DECISION, VERSION)


@pytest.fixture
def versions(governed: Governed) -> Governed:
    """A base and an adapter that alice has made, and that nobody decided about."""
    for manifest in (builders.full_version(), builders.model_version()):
        assert governed.refusal(ALICE, manifest) == ""
    for name in (BASE, BOT):
        governed.server.says(VERSION, name, "Approved", "NotApproved")
    return governed


def a_service(version: str = BOT, **changes: Any) -> Manifest:
    base = {"name": "tiny", "uri": f"oci://{builders.REGISTRY}/base/tiny@{builders.BASE_DIGEST}"}
    models = [{"name": "support-bot", "version": {"name": version}}]
    return builders.inference_service(**{"baseModel": base, "models": models, **changes})


# --- who decides in whose name --------------------------------------------------------------------


def test_whoever_creates_is_written_down_and_stays_so(versions: Governed) -> None:
    assert versions.author(VERSION, BOT) == ALICE
    for value in (BOB, None):
        changes = {"metadata": {"annotations": {AUTHOR: value}}}
        said = versions.refusal_of_change(CAROL, f"mv/{BOT}", changes)
        assert f"metadata.annotations[{AUTHOR}] cannot be changed; set it to alice" in said
    assert (
        versions.refusal_of_change(CAROL, f"mv/{BOT}", {"metadata": {"labels": {"a": "b"}}}) == ""
    )


def test_an_apply_from_git_keeps_the_author(governed: Governed) -> None:
    job = json.dumps(builders.pretraining_job("applied", governed.namespace, suspend=True))
    for _ in range(2):
        governed.kubectl("apply", "--server-side", "-f", "-", by=ALICE, text=job)
    assert governed.author(JOB, "applied") == ALICE


def test_nobody_makes_a_version_in_the_name_of_another(governed: Governed) -> None:
    foreign = builders.with_metadata(builders.full_version(), annotations={AUTHOR: BOB})
    said = governed.refusal(ALICE, foreign)
    assert "must be the user name of whoever creates the object" in said


def test_a_wrong_type_is_told_by_the_schema_and_not_by_the_policy(governed: Governed) -> None:
    wrong = builders.pretraining_job()
    wrong["spec"]["hyperparameters"] = {"batchSize": "eight"}
    said = governed.refusal(ALICE, wrong, how="apply")
    assert "spec.hyperparameters.batchSize" in said
    assert "policy" not in said


REFUSED = {
    "in the name of another": (
        BOB,
        {"by": ALICE},
        "spec.by must be the user name",
        "set it to bob",
    ),
    "to approve without the right": (
        DAVE,
        {"by": DAVE},
        "dave may not approve",
        "ask for the verb approve",
    ),
    "to lift a quarantine without the right": (
        DAVE,
        {"by": DAVE, "action": "LiftQuarantine"},
        "dave may not liftquarantine ModelVersion",
        "ask for the verb liftquarantine on modelversions.trimtab.dev",
    ),
    "to promote without the right": (
        BOB,
        {
            "by": BOB,
            "action": "Promote",
            "target": {
                "kind": SERVICE,
                "name": "chat",
                "model": "support-bot",
                "digest": builders.DIGEST,
            },
        },
        "bob may not promote InferenceService chat",
        "ask for the verb promote on inferenceservices.trimtab.dev",
    ),
    "to revoke without the right": (
        DAVE,
        {"by": DAVE, "action": "Revoke"},
        "dave may not revoke",
        "ask for the verb revoke",
    ),
}


@pytest.mark.parametrize(("by", "spec", "fault", "remedy"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(
    versions: Governed, by: str, spec: Manifest, fault: str, remedy: str
) -> None:
    said = versions.refusal(by, builders.decision(**spec))
    assert fault in said
    assert remedy in said


def test_an_author_cannot_approve_although_the_role_allows_it(governed: Governed) -> None:
    assert governed.refusal(CAROL, builders.model_version()) == ""
    said = eventually(lambda: governed.refusal(CAROL, builders.decision(by=CAROL)))
    assert "carol has made ModelVersion support-bot-aaaaaaaa" in said
    assert "ask somebody else to approve it" in said


def test_a_decision_is_never_taken_away_by_who_may_make_it(versions: Governed) -> None:
    name = versions.decides(BOB, "Approve")
    said = versions.refusal_of_change(BOB, f"tdc/{name}", {"spec": {"action": "Retire"}})
    assert 'cannot patch resource "decisions"' in said
    said = versions.refusal(BOB, builders.decision(name), how="delete")
    assert 'cannot delete resource "decisions"' in said


# --- what follows ---------------------------------------------------------------------------------


def test_from_refusal_to_approval_to_service_and_back(versions: Governed) -> None:
    said = versions.refusal(ALICE, a_service())
    assert f"spec names ModelVersion {BOT}, which is not approved (nobody has approved it)" in said
    assert "ask for a Decision with action Approve" in said

    approval = versions.decides(BOB, "Approve")
    message = versions.server.says(VERSION, BOT, "Approved", "Approved")
    assert message == "approved by bob: read 40 answers"
    versions.server.says(DECISION, approval, "Effective", "InForce")
    assert eventually(lambda: versions.refusal(ALICE, a_service()) == "")
    head, row = versions.kubectl("get", "mv", BOT).splitlines()
    assert row.split()[head.split().index("APPROVED")] == "True"

    revocation = versions.decides(BOB, "Revoke")
    versions.server.says(VERSION, BOT, "Approved", "Revoked")
    versions.server.says(DECISION, approval, "Effective", "Superseded")
    eventually(
        lambda: (
            "is not approved (approval revoked by bob"
            in versions.refusal(ALICE, {**a_service(), "metadata": {"name": "other"}})
        )
    )
    # What named it before may still be changed otherwise.
    assert versions.refusal_of_change(ALICE, "tis/chat", {"spec": {"replicas": 2}}) == ""

    versions.server.delete(DECISION, revocation)
    versions.server.delete(DECISION, approval)
    eventually(lambda: not versions.server.get(DECISION, revocation))
    # The operator has heard of the deletion as soon as it acts on what comes after it.
    later = versions.decides(BOB, "Retire")
    versions.server.says(DECISION, later, "Effective", "InForce")
    assert versions.server.condition(VERSION, BOT, "Approved")["reason"] == "Revoked"


def test_a_quarantine_follows_the_content_and_is_lifted_by_who_may(versions: Governed) -> None:
    versions.decides(ALICE, "Quarantine")
    versions.server.says(VERSION, BOT, "Quarantined", "Quarantined")
    time.sleep(1.1)  # within one second of the API server's clock the quarantine has the last word
    versions.decides(BOB, "LiftQuarantine")
    versions.server.says(VERSION, BOT, "Quarantined", "NotQuarantined")


def test_an_approval_of_other_weights_is_none(versions: Governed) -> None:
    name = versions.decides(BOB, "Approve", digest=builders.OTHER_DIGEST)
    message = versions.server.says(DECISION, name, "Effective", "DigestMismatch")
    assert builders.DIGEST in message
    assert not versions.server.is_true(VERSION, BOT, "Approved")


def test_a_retired_version_is_named_by_nobody_new(versions: Governed) -> None:
    for name, digest in ((BOT, builders.DIGEST), (BASE, builders.BASE_DIGEST)):
        versions.decides(BOB, "Approve", name, digest)
        versions.server.says(VERSION, name, "Approved", "Approved")
    assert eventually(lambda: versions.refusal(ALICE, a_service()) == "")
    for name, digest in ((BOT, builders.DIGEST), (BASE, builders.BASE_DIGEST)):
        versions.decides(ALICE, "Retire", name, digest)
        versions.server.says(VERSION, name, "Retired", "Retired")

    other = {**a_service(), "metadata": {"name": "other"}}
    eventually(
        lambda: f"names ModelVersion {BOT}, which is retired" in versions.refusal(ALICE, other)
    )
    on_base = {"modelVersion": {"name": BASE}}
    refused = [
        builders.fine_tune_job(baseModel=on_base),
        builders.model_version("other", baseModel=on_base),
    ]
    for manifest in refused:
        said = versions.refusal(ALICE, manifest)
        assert f"spec.baseModel.modelVersion names {BASE}, which is retired" in said
    assert versions.refusal_of_change(ALICE, "tis/chat", {"spec": {"replicas": 2}}) == ""


def test_kubectl_shows_where_a_version_comes_from(versions: Governed) -> None:
    def seen() -> Manifest:
        version = json.loads(versions.kubectl("get", "mv", BOT, "-o", "json"))
        return dict(version["status"].get("lineage", {}))

    graph = eventually(seen)
    assert graph["nodes"][0] == {
        "id": f"{VERSION}/{BOT}",
        "kind": VERSION,
        "name": BOT,
        "digest": builders.DIGEST,
    }
    (edge,) = [e for e in graph["edges"] if e["target"] == f"{VERSION}/{BOT}"]
    assert edge["relation"] == "BaseOf"


@pytest.fixture
def wants_signatures(versions: Governed) -> Iterator[Governed]:
    """The namespace asks for signatures for a while, and for nothing else."""
    label, others = "trimtab.dev/require-signature", dict.fromkeys(ASKED)
    core, name = versions.server.core, versions.namespace
    core.patch_namespace(name, {"metadata": {"labels": {**others, label: "true"}}})
    try:
        yield versions
    finally:
        core.patch_namespace(name, {"metadata": {"labels": {**ASKED, label: None}}})


def test_in_a_namespace_that_asks_only_signed_versions_are_named(
    wants_signatures: Governed,
) -> None:
    here = wants_signatures
    assert eventually(lambda: "is not signed" in here.refusal(ALICE, a_service()))
    said = here.refusal(ALICE, a_service())
    assert f"spec names ModelVersion {BOT}, which is not signed" in said
    assert "this namespace asks for signatures (label trimtab.dev/require-signature)" in said
    on_base = a_service(BOT, baseModel={"name": "tiny", "modelVersion": {"name": BASE}}, models=[])
    assert f"spec names ModelVersion {BASE}, which is not signed" in here.refusal(ALICE, on_base)
    elsewhere = {**a_service(), "spec": {**a_service()["spec"], "models": []}}
    assert here.refusal(ALICE, elsewhere) == "", "a base of others has no signature to ask for"


def test_policies_are_well_typed(governed: Governed) -> None:
    """The API server checks expressions against the kinds' schemas and says what it does not understand."""
    selector = f"--selector=app.kubernetes.io/instance={RELEASE}-trimtab"

    def checked() -> list[Manifest]:
        policies = governed.kubectl("get", "validatingadmissionpolicy", selector, "-o", "json")
        said = [p.get("status", {}).get("typeChecking") for p in json.loads(policies)["items"]]
        return said if None not in said else []

    said = eventually(checked, what="the expressions were not checked")
    assert said == [{}] * 5
