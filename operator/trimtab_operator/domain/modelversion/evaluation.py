"""The evaluation pod: its task, its Job, and the name under which it leaves its result."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import EvaluationRun, Output, Owner
from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.documents.evaluation import ComparisonWanted, ContenderRun, JudgeRun, SuiteRun
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_api.v1alpha1.evaluation import Suite, SuiteName
from trimtab_api.v1alpha1.modelversion import ArtifactKind, Contender, Opponents
from trimtab_operator.domain import endpoints, pods
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.manifests import Manifest, get
from trimtab_operator.domain.modelversion import opponents
from trimtab_operator.domain.modelversion.base import ResolvedBase
from trimtab_operator.domain.naming import (
    child_name,
    digest_of,
    image_reference,
    result_tag,
    short_hash,
    version_repository,
)
from trimtab_operator.domain.observation import JobState
from trimtab_operator.domain.outcome import soonest
from trimtab_operator.settings import Settings

KIND: Final = "ModelVersion"
# Room for an adapter and the held-out data, which are small; models are mounted, not copied.
VOLUME_SIZE: Final = "4Gi"
BACKOFF_LIMIT: Final = 3
LOGS_KEPT: Final = timedelta(hours=1)
# A model that never stops, or a GPU that hangs, must not hold its node for ever.
LONGEST: Final = timedelta(days=1)
EXAMPLES: Final = 200
EXAMPLES_COMPARED: Final = 1000


def job_name(version: ModelVersion) -> str:
    """One name per version and per request to try again."""
    return child_name(
        version.metadata.name, names.EVALUATE, version.metadata.uid, _asked_again(version)
    )


def run_document(
    version: ModelVersion,
    base: ResolvedBase | None,
    against: Opponents | None,
    settings: Settings,
) -> EvaluationRun:
    """The pod's task."""
    artifact = version.spec.artifact
    stored = Stored(uri=artifact.uri, digest=artifact.digest)
    data = version.spec.evaluation.dataset
    is_full = artifact.kind is ArtifactKind.FULL
    return EvaluationRun(
        owner=Owner(
            kind=KIND,
            namespace=version.metadata.namespace,
            name=version.metadata.name,
            uid=version.metadata.uid,
        ),
        kind=artifact.kind,
        artifact=stored,
        rank=artifact.rank,
        base=Mounted(uri=base.uri, digest=base.digest, path=names.BASE_MODEL_PATH)
        if base
        else None,
        mounted=Mounted(uri=artifact.uri, digest=artifact.digest, path=names.CANDIDATE_MODEL_PATH)
        if is_full
        else None,
        data=Stored(uri=data.uri, digest=data.uri.rpartition("@")[2]) if data else None,
        max_examples=_most_examples(version),
        gpus=version.spec.evaluation.resources.gpus,
        contenders=_contenders(against, base) if against else [],
        comparisons=_comparisons(version, against) if against else [],
        suites=[_suite(version, suite, base, against) for suite in version.spec.evaluation.suites],
        parent=parent.name if (parent := _parent(against)) else None,
        output=Output(
            repository=repository(version, settings),
            result_tag=tag(version),
            plain_http=settings.registry.plain_http,
        ),
    )


def longest_seconds(version: ModelVersion) -> int:
    """How long the evaluation may run."""
    wanted = version.spec.evaluation.active_deadline_seconds
    return wanted or int(LONGEST.total_seconds())


def _most_examples(version: ModelVersion) -> int:
    wanted = version.spec.evaluation
    usual = EXAMPLES_COMPARED if opponents.compared(wanted.gates) else EXAMPLES
    return wanted.max_examples or usual


def _contenders(against: Opponents, base: ResolvedBase | None) -> list[ContenderRun]:
    """Those that can be had; a base that is mounted anyway is not mounted again."""
    found = []
    for number, each in enumerate(c for c in against.contenders if not c.problem):
        path = f"{names.CONTENDER_MODEL_PATH}-{number}"
        is_full = each.kind is ArtifactKind.FULL
        if base and each.base_uri and digest_of(each.base_uri) == base.digest:
            root: Mounted | None = Mounted(
                uri=base.uri, digest=base.digest, path=names.BASE_MODEL_PATH
            )
        else:
            root = _mounted(each.base_uri, path)
        found.append(
            ContenderRun(
                name=each.name,
                kind=each.kind,
                artifact=Stored(uri=each.uri, digest=digest_of(each.uri)),
                rank=each.rank,
                base=None if is_full else root,
                mounted=_mounted(each.uri, path) if is_full else None,
            )
        )
    return found


def _parent(against: Opponents | None) -> Contender | None:
    """The version that a full one was trained from, if it can be had."""
    named = [c for c in against.contenders if c.name == against.parent] if against else []
    return next((each for each in named if not each.problem), None)


def _suite(
    version: ModelVersion, suite: Suite, base: ResolvedBase | None, against: Opponents | None
) -> SuiteRun:
    """What a base was evaluated on is what must not be forgotten, unless the user names a text."""
    if suite.judge is not None:
        url = endpoints.url(suite.judge.endpoint, version.metadata.namespace)
        return SuiteRun(name=suite.name, judge=JudgeRun(judge=suite.judge, url=url))
    uri = suite.uri
    if uri is None and suite.name is SuiteName.FORGETTING:
        parent = _parent(against)
        uri = parent.dataset_uri if parent else base.held_out if base else None
    data = Stored(uri=uri, digest=digest_of(uri)) if uri else None
    return SuiteRun(name=suite.name, data=data, harness=suite.harness)


def _mounted(uri: str | None, path: str) -> Mounted | None:
    return Mounted(uri=uri, digest=digest_of(uri), path=path) if uri else None


def _comparisons(version: ModelVersion, against: Opponents) -> list[ComparisonWanted]:
    """Each figure at each confidence once, with those who can be had."""
    able = {c.name for c in against.contenders if not c.problem}
    wanted = {
        (gate.metric, gate.sureness): [
            name for name in opponents.against(against, gate.metric) if name in able
        ]
        for gate in version.spec.evaluation.gates
        if gate.not_worse_than
    }
    return [
        ComparisonWanted(metric=metric, confidence=confidence, versions=versions)
        for (metric, confidence), versions in wanted.items()
        if versions
    ]


def repository(version: ModelVersion, settings: Settings) -> str:
    """Where the report goes: beside the artifact, unless that is somebody else's registry."""
    beside = image_reference(version.spec.artifact.uri).partition("@")[0]
    if beside.startswith(f"{settings.registry.prefix}/"):
        return beside
    return version_repository(
        settings.registry.prefix, version.metadata.namespace, version.spec.model
    )


def tag(version: ModelVersion) -> str:
    """Tag of the result document."""
    again = _asked_again(version)
    stage = f"{names.EVALUATE}-{short_hash(again)}" if again else names.EVALUATE
    return result_tag(version.metadata.uid, stage, 0)


def result_uri(version: ModelVersion, settings: Settings) -> str:
    """Address of the result document."""
    return f"oci://{repository(version, settings)}:{tag(version)}"


def ended(job: Manifest, now: datetime) -> datetime:
    """When a Job ended; now, while it has not."""
    for each in get(job, "status", "conditions", default=[]):
        if each.get("type") in {"Complete", "Failed"} and each.get("status") == "True":
            return moment_of(each.get("lastTransitionTime")) or now
    return now


def over(jobs: Sequence[Manifest], now: datetime) -> tuple[tuple[Manifest, ...], timedelta | None]:
    """The Jobs whose time is over once nothing is left to find out, and when the others' will be."""
    due: list[Manifest] = []
    waits: list[timedelta] = []
    for job in jobs:
        left = LOGS_KEPT - (now - ended(job, now))
        if JobState(job).is_finished and left <= timedelta():
            due.append(job)
        else:
            waits.append(max(left, timedelta(seconds=1)))
    return tuple(due), soonest(*waits)


def image(version: ModelVersion, settings: Settings) -> str:
    """Frozen with the first pod; a request to try again takes the present one."""
    if version.status.image and not _asked_again(version):
        return version.status.image
    return settings.images.pipelines


def children(
    version: ModelVersion,
    base: ResolvedBase | None,
    against: Opponents | None,
    settings: Settings,
) -> list[Manifest]:
    """The task's ConfigMap and the Job."""
    return task(
        KIND,
        version,
        version,
        job_name(version),
        run_document(version, base, against, settings),
        settings,
        image=image(version, settings),
        seconds=longest_seconds(version),
    )


def task(  # noqa: PLR0913 - whose it is, and what it is about
    kind: str,
    owner: AnyResource,
    version: ModelVersion,
    name: str,
    document: EvaluationRun,
    settings: Settings,
    *,
    image: str,
    seconds: int,
) -> list[Manifest]:
    """ConfigMap and Job of an evaluation of the version, as children of the owner."""
    mounts = [
        pods.run_document(name),
        pods.scratch_space(),
        pods.Mount.of(
            "volume",
            names.VOLUME_PATH,
            {"emptyDir": {"sizeLimit": VOLUME_SIZE}},
            read_only=False,
        ),
        *pods.registry_credentials(settings),
        *_judge_credentials(version),
    ]
    models = [document.base, document.mounted]
    models += [m for c in document.contenders for m in (c.base, c.mounted)]
    for path, uri in {m.path: m.uri for m in models if m}.items():
        volume = path.rpartition("/")[2]
        mounts.append(pods.model_image(volume, path, uri, settings))
    wants = version.spec.evaluation.resources
    container = pods.container(
        names.EVALUATE,
        image,
        ["python", "-m", "trimtab_pipelines", names.EVALUATE],
        mounts,
        settings,
        wants=pods.resources(wants.gpus, wants.cpu, wants.memory, is_memory_limited=False),
    )
    job = pods.task_job(
        kind,
        owner,
        names.EVALUATE,
        name,
        pods.pod_spec([container], mounts, settings, overrides=version.spec.evaluation.pod),
        backoff_limit=BACKOFF_LIMIT,
        active_deadline_seconds=seconds,
        labels=_passed_on(version),
    )
    text = document.model_dump_json(exclude_none=True)
    return [pods.run_config_map(kind, owner, names.EVALUATE, name, text), job]


def _judge_credentials(version: ModelVersion) -> list[pods.Mount]:
    """There is at most one judge: suites are told apart by their names."""
    judges = [suite.judge for suite in version.spec.evaluation.suites if suite.judge]
    path = names.JUDGE_CREDENTIALS_PATH
    return [m for j in judges for m in endpoints.credentials("judge", j.endpoint, path)]


def _asked_again(version: ModelVersion) -> str:
    return version.metadata.annotations.get(names.ANNOTATION_RETRY, "")


def _passed_on(version: ModelVersion) -> dict[str, str]:
    labels = version.metadata.labels
    return {k: labels[k] for k in (names.LABEL_KUEUE_QUEUE,) if k in labels}
