"""The stage `sign`: files and report of a version are signed, or a signature that is there is verified.

What is published was verified first, and what was verified is what the version's digests name: a
key that lies in the pod signs nothing else.
"""

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import time

from pydantic import ValidationError

from trimtab_api import names
from trimtab_api.documents import (
    EvaluationReport,
    Output,
    RunFailure,
    SigningMethod,
    SigningResult,
    SigningRun,
)
from trimtab_api.reasons import FailureReason
from trimtab_oci import Reference, RegistryClient
from trimtab_oci.signatures import (
    ANNOTATIONS,
    BUNDLE_TYPE,
    PREDICATE,
    REPORT_NAME,
    Proof,
    SignatureFault,
    Trust,
    verify,
)
from trimtab_pipelines import paths
from trimtab_pipelines.evaluation.fetching import registry_client
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.runtime import RunError, Stage, Stop
from trimtab_pipelines.signing.files import fetched, hashes_of
from trimtab_pipelines.signing.keyless import sign_as
from trimtab_pipelines.signing.signer import Identity, sign

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 120.0


def work(run: SigningRun, _stop: Stop) -> SigningResult:
    """Bring what is to be signed, and sign it or verify what is attached to it."""
    with tempfile.TemporaryDirectory(prefix="sign-") as folder:
        hashes = hashes_of(fetched(run, Path(folder)))
    content = asyncio.run(again_while_unreachable(lambda: _report(run), _PATIENCE_SECONDS))
    report = hashlib.sha256(content).hexdigest()
    if run.method is SigningMethod.EXISTING:
        return _verified(run, hashes, report)
    return _signed(run, hashes, report)


def _signed(run: SigningRun, hashes: Mapping[str, str], report: str) -> SigningResult:
    now = datetime.fromtimestamp(time(), UTC)
    secret = paths.inside(names.SIGNING_CREDENTIALS_PATH)
    covered = {**hashes, REPORT_NAME: report}
    if run.method is SigningMethod.SIGSTORE:
        token, trust = secret / names.IDENTITY_TOKEN, paths.inside(names.TRUST_PATH)
        audience = run.audience or "sigstore"
        bundle, signer = sign_as(run.model, covered, token, trust, run.source, audience)
    else:
        identity = Identity(run.method, secret, run.source)
        bundle, signer = sign(run.model, covered, identity, now)
    uri = asyncio.run(again_while_unreachable(lambda: _push(run, bundle), _PATIENCE_SECONDS))
    log.info("signed by %s", signer)
    return SigningResult(bundle_uri=str(uri), signer=signer, is_report_covered=True)


def _verified(run: SigningRun, hashes: Mapping[str, str], report: str) -> SigningResult:
    """The first attached signature that is good; else what is wrong with those that are there."""
    trust = Trust.load(paths.inside(names.TRUST_PATH))
    now = datetime.fromtimestamp(time(), UTC)
    bundles = asyncio.run(again_while_unreachable(lambda: _attached(run), _PATIENCE_SECONDS))
    faults: list[tuple[str, SignatureFault]] = []
    for uri, bundle in bundles:
        try:
            proof: Proof = verify(bundle, hashes, report, trust, now)
        except SignatureFault as fault:
            log.warning("%s: %s", uri, fault)
            faults.append((uri, fault))
        else:
            return SigningResult(
                bundle_uri=uri, signer=proof.signer, is_report_covered=proof.is_report_covered
            )
    if faults:
        where, last = faults[-1]
        raise RunError(last.reason, f"{where}: {last.message}")
    raise RunError(
        FailureReason.SIGNATURE_MISSING,
        f"no signature is attached to {run.artifact.uri}; sign the files with model_signing and attach the bundle "
        "with `python -m trimtab_pipelines attach`, then set the annotation trimtab.dev/retry to a new value",
    )


async def _report(run: SigningRun) -> bytes:
    """The report's bytes, by digest; one about something else is never signed."""
    async with registry_client(run.output) as registry:
        content = await registry.document(Reference.parse(run.report.uri).at(run.report.digest))
    try:
        about = EvaluationReport.model_validate_json(content).artifact_digest
    except ValidationError as fault:
        raise RunError(
            FailureReason.REPORT_INVALID, f"the report {run.report.uri} cannot be read"
        ) from fault
    if about != run.artifact.digest:
        raise RunError(
            FailureReason.REPORT_INVALID,
            f"the report {run.report.uri} is about {about}, not about {run.artifact.digest}",
        )
    return content


async def _attached(run: SigningRun) -> list[tuple[str, bytes]]:
    async with registry_client(run.output) as registry:
        return await attached(registry, Reference.parse(run.artifact.uri).at(run.artifact.digest))


async def attached(registry: RegistryClient, artifact: Reference) -> list[tuple[str, bytes]]:
    """The bundles about models that are attached to an artifact; those about images are others'."""
    found = []
    for each in await registry.referrers(artifact, BUNDLE_TYPE):
        told = each.annotations.get("dev.sigstore.bundle.predicateType", PREDICATE)
        if told == PREDICATE:
            reference = artifact.at(each.digest)
            found.append((str(reference), await registry.document(reference)))
    return found


async def _push(run: SigningRun, bundle: bytes) -> Reference:
    artifact = Reference.parse(run.artifact.uri).at(run.artifact.digest)
    # What lies in a registry of others gets no referrers from us: status names the bundle.
    subject = artifact if artifact.name == run.output.repository else None
    async with registry_client(run.output) as registry:
        return await push_bundle(registry, run.output.repository, bundle, subject)


async def push_bundle(
    registry: RegistryClient, repository: Reference | str, bundle: bytes, subject: Reference | None
) -> Reference:
    return await registry.push_document(
        repository,
        bundle,
        artifact_type=BUNDLE_TYPE,
        subject=subject,
        media_type=BUNDLE_TYPE,
        annotations=ANNOTATIONS,
    )


def outputs(run: SigningRun) -> Sequence[Output]:
    return [run.output]


def failed(failure: RunFailure) -> SigningResult:
    return SigningResult(failure=failure)


STAGE = Stage(run=SigningRun, work=work, failed=failed, outputs=outputs)
