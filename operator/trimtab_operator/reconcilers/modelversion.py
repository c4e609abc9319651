"""ModelVersion: gather what the store and the registry know, decide, act."""

import asyncio
from dataclasses import replace

from pydantic import ValidationError

from trimtab_api.documents import EvaluationReport, EvaluationResult, SigningResult
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1 import Dataset, FineTuneJob, InferenceService, ModelVersion
from trimtab_api.v1alpha1.modelversion import Contender
from trimtab_oci.format import ANNOTATION_BASE, ANNOTATION_KIND, ANNOTATION_RANK
from trimtab_operator.domain.errors import (
    ArtifactError,
    ArtifactForbidden,
    ArtifactInvalid,
    ArtifactMissing,
    Forbidden,
    Gone,
    NameTaken,
    Refused,
)
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.modelversion import (
    evaluation,
    lineage,
    opponents,
    retention,
    signing,
    usage,
)
from trimtab_operator.domain.modelversion.base import ResolvedBase, resolved
from trimtab_operator.domain.modelversion.judging import Given, Observed, needs_registry
from trimtab_operator.domain.modelversion.plan import Plan, blocked, plan
from trimtab_operator.domain.modelversion.verdict import remembered
from trimtab_operator.domain.modelversion.verification import ArtifactFacts, Claim
from trimtab_operator.domain.observation import JobState, document_of, parsed, pods_of
from trimtab_operator.domain.outcome import Done, Outcome, Retry
from trimtab_operator.domain.references import MODEL, VERSION, artifact
from trimtab_operator.reconcilers.decided import decisions_about
from trimtab_operator.reconcilers.ports import Key, Registry, World


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one ModelVersion nearer to what it should be."""
    version = world.cluster.get(ModelVersion, key)
    if version is None:
        return Done()
    observed = await _with_results(_seen(version, world), world)
    observed = await _with_signature(observed, world)
    return await _act(plan(observed, world.settings, world.clock.now()), version, world)


def _seen(version: ModelVersion, world: World) -> Observed:
    """What the local store holds."""
    cluster = world.cluster
    namespace, name = version.key
    target = (VERSION, namespace, name)
    jobs = cluster.referrers(FineTuneJob, target)
    base = version.spec.base_model
    named = base.model_version.name if base and base.model_version else None
    made = tuple(cluster.children(version, "Job"))
    origin = version.spec.lineage
    data = origin.dataset.name if origin.dataset else None
    pods = tuple(cluster.children(version, "Pod"))
    return Observed(
        version=version,
        base=cluster.get(ModelVersion, (namespace, named)) if named else None,
        parent=cluster.get(ModelVersion, (namespace, origin.parent)) if origin.parent else None,
        sources=lineage.sources_of(
            version, cluster.get(Dataset, (namespace, data)) if data else None, jobs
        ),
        origin=lineage.origin_of(version, jobs),
        jobs=tuple(j for j in made if not (signing.is_about(j) or retention.is_deletion(j))),
        signature=signing.Seen(tuple(j for j in made if signing.is_about(j)), pods),
        deletions=tuple(j for j in made if retention.is_deletion(j)),
        others=_others(version, world),
        pods=pods,
        users=usage.uses(
            name,
            cluster.referrers(InferenceService, target),
            jobs,
            cluster.referrers(ModelVersion, target),
        ),
        producers=tuple(usage.producers(name, jobs)),
        decisions=decisions_about(version, cluster),
        policy=cluster.policy(namespace),
    )


def _others(version: ModelVersion, world: World) -> tuple[str, ...]:
    """Who else refers to the same content; of interest only where that could go.

    Whether it is retired is decided later, perhaps in this very reconcile.
    """
    if not world.settings.retention.delete_retired_after_seconds:
        return ()
    target = artifact(version.spec.artifact.digest)
    return retention.others(
        version,
        world.cluster.referrers(ModelVersion, target),
        world.cluster.referrers(InferenceService, target),
        world.cluster.referrers(FineTuneJob, target),
    )


async def _with_results(observed: Observed, world: World) -> Observed:
    """What only the registry can tell, asked for only while it matters."""
    version = observed.version
    if needs_registry(observed):
        base = resolved(version, observed.base)
        if isinstance(base, Finding):
            return observed
        given = await _given(version, base, world.registry)
        observed = replace(observed, given=given)
        if not given.is_forbidden:
            return observed
    if remembered(version):
        return observed
    if opponents.are_due(version) and not observed.is_going:
        observed = await _with_opponents(observed, world)
    return await _with_job_result(observed, world)


async def _with_opponents(observed: Observed, world: World) -> Observed:
    """Whom to compare with. What the registry has lost cannot be mounted, and the pod would wait for it."""
    version, cluster = observed.version, world.cluster
    namespace, _ = version.key
    others = cluster.referrers(ModelVersion, (MODEL, namespace, version.spec.model))
    services = {
        service.key: service
        for other in others
        for service in cluster.referrers(InferenceService, (VERSION, *other.key))
    }
    parent = opponents.parent_of(version)
    field = opponents.Field(
        others,
        tuple(services.values()),
        cluster.get(ModelVersion, (namespace, parent)) if parent else None,
    )
    chosen = opponents.chosen(version, field)
    contenders = []
    for each in chosen.contenders:
        try:
            contenders.append(await _present(each, world.registry))
        except ArtifactError as error:
            fault = Finding.unknown(
                FailureReason.REGISTRY_UNREACHABLE, f"opponent {each.name}: {error}"
            )
            return replace(observed, opponents_fault=fault)
    return replace(observed, opponents=chosen.model_copy(update={"contenders": contenders}))


async def _present(contender: Contender, registry: Registry) -> Contender:
    """The contender, with a word where its artifact or its base is lost."""
    for uri in (contender.uri, contender.base_uri):
        try:
            if uri:
                await registry.manifest(uri)
        except ArtifactForbidden:
            continue  # not for the operator's eyes; the pod has the user's credentials
        except (ArtifactMissing, ArtifactInvalid) as error:
            problem = f"the registry has lost what it needs ({error})"[:512]
            return contender.model_copy(update={"problem": problem})
    return contender


async def _with_job_result(observed: Observed, world: World) -> Observed:
    """The evaluation's result: the termination message, else what the pod left in the registry."""
    name = evaluation.job_name(observed.version)
    job = next((j for j in observed.jobs if name_of(j) == name), None)
    if job is None or not JobState(job).is_complete:
        return observed
    pods = pods_of(name, observed.pods)
    result = document_of(pods, EvaluationResult, succeeded=True)
    if result is not None and not result.shortened:
        return replace(observed, result=result)
    try:
        content = await world.registry.document(
            evaluation.result_uri(observed.version, world.settings)
        )
    except ArtifactMissing:
        return observed
    except ArtifactError as error:
        return replace(observed, result_fault=_fault(error))
    return replace(observed, result=parsed(content, EvaluationResult))


async def _with_signature(observed: Observed, world: World) -> Observed:
    """The result of the Job that signs, as long as it matters."""
    version, seen = observed.version, observed.signature
    if signing.remembered(version) or retention.has_begun(version):
        return observed
    name = signing.job_name(version)
    job = next((j for j in seen.jobs if name_of(j) == name), None)
    if job is None or not JobState(job).is_complete:
        return observed
    result = document_of(pods_of(name, seen.pods), SigningResult, succeeded=True)
    if result is None:
        try:
            uri = signing.result_uri(version, world.settings)
            result = parsed(await world.registry.document(uri), SigningResult)
        except ArtifactMissing:
            return observed
        except ArtifactError as error:
            return replace(observed, signature=replace(seen, result_fault=_fault(error)))
    return replace(observed, signature=replace(seen, result=result))


async def _given(version: ModelVersion, base: ResolvedBase | None, registry: Registry) -> Given:
    try:
        manifest = await registry.manifest(version.spec.artifact.uri)
        claim = Claim(version, base.digest if base else None, _facts(manifest))
        return Given(claim=await _with_report(claim, registry))
    except ArtifactForbidden:
        return Given(is_forbidden=True)
    except ArtifactError as error:
        return Given(fault=_fault(error))


async def _with_report(claim: Claim, registry: Registry) -> Claim:
    """The claim with its report; a report that is absent or broken says nothing of the artifact."""
    uri = claim.version.spec.evaluation.report or ""
    try:
        manifest = await registry.manifest(uri)
        report = EvaluationReport.model_validate_json(await registry.document(uri))
    except (ArtifactMissing, ArtifactInvalid) as error:
        return replace(claim, report_problem=str(error))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"]) or "the document"
        return replace(claim, report_problem=f"it cannot be read: {where}: {first['msg']}")
    return replace(claim, report=report, report_subject=get(manifest, "subject", "digest"))


def _facts(manifest: Manifest) -> ArtifactFacts:
    annotations = get(manifest, "annotations", default={})
    return ArtifactFacts(
        kind=annotations.get(ANNOTATION_KIND),
        base=annotations.get(ANNOTATION_BASE),
        rank=annotations.get(ANNOTATION_RANK),
        size_bytes=sum(int(layer.get("size", 0)) for layer in manifest.get("layers", [])),
    )


def _fault(error: ArtifactError) -> Finding:
    if isinstance(error, ArtifactMissing):
        return Finding(FailureReason.SOURCE_NOT_FOUND, str(error))
    if isinstance(error, ArtifactInvalid):
        return Finding(FailureReason.DIGEST_MISMATCH, str(error))
    if isinstance(error, ArtifactForbidden):
        return Finding.unknown(FailureReason.REGISTRY_FORBIDDEN, str(error))
    return Finding.unknown(FailureReason.REGISTRY_UNREACHABLE, str(error))


async def _act(todo: Plan, version: ModelVersion, world: World) -> Outcome:
    cluster = world.cluster
    version = await cluster.write_finalizers(version, todo.finalizers)
    await asyncio.gather(*(cluster.emit(e) for e in todo.announced))
    if todo.decision is not None:
        version = await cluster.write_status(version, todo.decision)
    try:
        for manifest in todo.create:
            await cluster.create(manifest, version)
    except (Forbidden, NameTaken, Refused) as error:
        told = blocked(todo.status, str(error), version, world.clock.now())
        await cluster.write_status(version, told)
        return Retry(str(error))
    for child in todo.delete:
        await cluster.delete(child)
    await asyncio.gather(*(cluster.emit(e) for e in todo.events))
    try:
        await cluster.write_status(version, todo.status)
    except Gone:
        return Done()  # the last finalizer was ours
    return todo.outcome
