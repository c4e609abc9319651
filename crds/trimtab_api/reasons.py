"""Machine-readable reasons: of conditions, of Events, and of pods' failures.

They are part of the API: tools match on them. One line says what each means; docs/reasons.md is
generated from here.
"""

from enum import StrEnum


class FailureReason(StrEnum):
    """Why a pod could not do its task. `is_user_error` tells whether trying again can help."""

    DATA_EMPTY = "DataEmpty"  # a source has no record
    DATA_MALFORMED = "DataMalformed"  # a line or file cannot be parsed; the message names it
    DATA_ENCODING = "DataEncoding"  # a file is not UTF-8
    COLUMN_MISSING = "ColumnMissing"  # a mapped column does not exist; the message lists the others
    TOO_FEW_RECORDS = "TooFewRecords"  # a split that is needed would be empty
    ONLY_DUPLICATES = "OnlyDuplicates"  # all records are equal
    NOTHING_LEFT = "NothingLeft"  # cleaning dropped every record; the message says which step
    LEAKAGE_FOUND = "LeakageFound"  # held-out records of other data are in the training split
    LINE_TOO_LONG = (
        "LineTooLong"  # one line or record is too large to be read; the message names it
    )
    UNPACKS_TOO_LARGE = "UnpacksTooLarge"  # a compressed file is out of all proportion unpacked
    SOURCE_CHANGED = "SourceChanged"  # a file changed while it was read; tried again
    SETTING_UNKNOWN = "SettingUnknown"  # a language or a kind of personal data is not known
    RECORD_TOO_LONG = "RecordTooLong"  # no record fits into the context
    SOURCE_NOT_FOUND = "SourceNotFound"  # a file, key, object or claim does not exist
    SOURCE_FORBIDDEN = "SourceForbidden"  # credentials are missing or not accepted
    SOURCE_UNREACHABLE = "SourceUnreachable"  # the network or the server fails; tried again
    URI_UNSUPPORTED = "UriUnsupported"  # scheme or form is not known
    REVISION_MISSING = "RevisionMissing"  # hf:// needs a commit
    DIGEST_MISMATCH = "DigestMismatch"  # content is not what its digest says
    UNSAFE_FORMAT = "UnsafeFormat"  # pickle or anything that is not safetensors and JSON
    CORRUPT_WEIGHTS = "CorruptWeights"  # truncated or inconsistent safetensors
    BASE_MISMATCH = "BaseMismatch"  # an adapter of another base model
    RANK_MISMATCH = "RankMismatch"  # an adapter's rank is not what was declared
    UNSUPPORTED_ADAPTER = "UnsupportedAdapter"  # not for vLLM: DoRA, modules_to_save, added tokens
    UNSUPPORTED_MODEL = "UnsupportedModel"  # transformers cannot load it
    LOSS_NOT_FINITE = "LossNotFinite"  # training diverged, or a model gives no numbers
    OUT_OF_MEMORY = "OutOfMemory"  # the container was killed for memory, or CUDA ran out
    DISK_FULL = "DiskFull"  # the volume has no space left
    REGISTRY_UNREACHABLE = "RegistryUnreachable"  # tried again; nothing is lost
    REGISTRY_FORBIDDEN = "RegistryForbidden"  # push or pull was refused
    ENDPOINT_UNREACHABLE = "EndpointUnreachable"  # a teacher or judge does not answer; tried again
    ENDPOINT_FORBIDDEN = "EndpointForbidden"  # the key of a teacher or judge is missing or refused
    ENDPOINT_REFUSED = (
        "EndpointRefused"  # a teacher or judge knows no such model, or cannot do what is asked
    )
    ANSWERS_OFF_FORMAT = (
        "AnswersOffFormat"  # too few answers of a teacher or judge have the form that is asked for
    )
    WORKERS_LOST = "WorkersLost"  # workers of Ray are lost again and again; tried again
    RECORDING_INVALID = "RecordingInvalid"  # what is named is no recording of a teacher
    SUITE_INVALID = "SuiteInvalid"  # a case of a suite cannot be read; the message names the line
    REPORT_INVALID = "ReportInvalid"  # a given report is about something else or cannot be read
    SIGNING_KEY_MISSING = "SigningKeyMissing"  # the Secret, or an entry of it, is not there
    SIGNING_KEY_UNUSABLE = "SigningKeyUnusable"  # no ECDSA key, a wrong password, or a certificate that does not fit or has ended
    SIGNATURE_MISSING = "SignatureMissing"  # a signature is asked for and there is none
    SIGNATURE_INVALID = "SignatureInvalid"  # it is broken, or over other files or another report
    SIGNER_UNKNOWN = "SignerUnknown"  # none of the keys and certificates that are trusted made it
    INTERNAL_ERROR = "InternalError"  # a defect of ours; tried again


RETRYABLE = frozenset(
    {
        FailureReason.SOURCE_UNREACHABLE,
        FailureReason.SOURCE_CHANGED,
        FailureReason.REGISTRY_UNREACHABLE,
        FailureReason.ENDPOINT_UNREACHABLE,
        FailureReason.WORKERS_LOST,
        FailureReason.INTERNAL_ERROR,
    }
)


def is_user_error(reason: str) -> bool:
    """Whether trying the same again cannot help."""
    return reason not in RETRYABLE


class JobReason(StrEnum):
    """Reasons of a FineTuneJob's conditions, beside those of `FailureReason`."""

    PREPARING = "Preparing"  # data and base model of a job are being resolved
    PENDING = "Pending"  # the training pod is being started
    FETCHING = "Fetching"  # the training pod brings its data
    TRAINING = "Training"  # the training pod makes steps
    DATA_REMARKS = "DataRemarks"  # an Event: what was noticed about the data, such as duplicates
    RECORDS_CUT = "RecordsCut"  # an Event: records were too long, and not all of them was learned
    QUEUED = "Queued"  # a queue (Kueue) has not admitted the job yet
    STOPPING = "Stopping"  # a pod is being stopped and writes a checkpoint
    TRAINED = "Trained"  # training has ended well
    IN_PROGRESS = "InProgress"  # the job has not ended yet
    SUCCEEDED = "Succeeded"  # the job has made a ModelVersion
    NOT_FAILED = "NotFailed"  # nothing has been given up
    SUSPENDED_ON_REQUEST = "SuspendedOnRequest"  # spec.suspend is true
    NOT_SUSPENDED = "NotSuspended"  # spec.suspend is false
    RESUMED = "Resumed"  # the job goes on after a suspension
    RESULT_MISSING = "ResultMissing"  # a pod ended without a result that could be read
    VERSION_NAME_TAKEN = "VersionNameTaken"  # another artifact's ModelVersion has the name
    REFUSED = "Refused"  # the API server does not accept a child; the message quotes it
    NOT_ALLOWED = "NotAllowed"  # a quota, a policy or missing rights forbid a child
    NAME_TAKEN = "NameTaken"  # a child's name belongs to somebody else's object
    BASE_MODEL_NOT_READY = "BaseModelNotReady"  # the base's ModelVersion is missing or not Ready
    BASE_MODEL_UNSUITABLE = "BaseModelUnsuitable"  # the base's ModelVersion is no full model
    BASE_MODEL_RETIRED = (
        "BaseModelRetired"  # the base's ModelVersion was retired before the job was created
    )
    DATASET_NOT_READY = "DatasetNotReady"  # the Dataset is missing or not Ready
    DATASET_UNSUITABLE = "DatasetUnsuitable"  # the Dataset's task or splits do not fit the job
    UNSCHEDULABLE = (
        "Unschedulable"  # no node has room for the pod; the message quotes the scheduler
    )
    IMAGE_PULL_FAILED = "ImagePullFailed"  # an image or image volume cannot be pulled
    CONTAINER_NOT_CREATED = "ContainerNotCreated"  # the kubelet cannot create a container
    EVICTED = "Evicted"  # the node has put the pod out
    NODE_LOST = "NodeLost"  # the node of the pod does not answer
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # activeDeadlineSeconds have passed
    CONTAINER_FAILED = "ContainerFailed"  # a container ended with an error and told no reason
    JOB_FAILED = "JobFailed"  # a batch Job failed and its pods are gone


class DatasetReason(StrEnum):
    """Reasons of a Dataset's condition, beside those of `FailureReason` and of Jobs and pods in `JobReason`."""

    READY = "Ready"  # the data is prepared, as the spec says now
    PREPARING = "Preparing"  # a pod reads, cleans and divides the data
    HELD_OUT_NOT_READY = "HeldOutNotReady"  # a Dataset of leakage.against is missing or not Ready
    CIRCULAR = "Circular"  # Datasets name each other in leakage.against; the message says which
    DATA_REMARKS = "DataRemarks"  # an Event: what was noticed about the data
    RAY_NOT_ENABLED = (
        "RayNotEnabled"  # engine is Ray, and the chart does not say that KubeRay is there
    )
    RESULT_MISSING = "ResultMissing"  # the pod ended without a result that could be read
    REFUSED = "Refused"  # the API server does not accept a child; the message quotes it
    NOT_ALLOWED = "NotAllowed"  # a quota, a policy or missing rights forbid a child
    NAME_TAKEN = "NameTaken"  # a child's name belongs to somebody else's object


class VersionReason(StrEnum):
    """Reasons of a ModelVersion's conditions, beside those of `FailureReason`."""

    READY = "Ready"  # verified, evaluated, and every gate passed
    ARTIFACT_VERIFIED = "ArtifactVerified"  # the artifact is what its digest and the spec say
    EVALUATED = "Evaluated"  # an evaluation pod has measured it on held-out data
    FINGERPRINT_ONLY = "FingerprintOnly"  # without held-out data only the fingerprint was taken
    REPORT_VERIFIED = "ReportVerified"  # the given report is about this very artifact
    EVALUATING = "Evaluating"  # an evaluation pod is at work
    NOT_EVALUATED = "NotEvaluated"  # another fault came first
    GATE_FAILED = "GateFailed"  # a figure misses its threshold, or is worse than the champion's
    GATE_UNDECIDED = "GateUndecided"  # a figure was not measured, or too few examples to compare
    SIGNED = "Signed"  # a pod of the namespace has signed the artifact and the report
    SIGNATURE_VERIFIED = "SignatureVerified"  # a signature that was made elsewhere is good
    SIGNING = "Signing"  # a pod that signs or verifies is at work
    NOT_SIGNED = "NotSigned"  # nothing is signed before it is evaluated and its gates pass
    JOB_REFUSED = "JobRefused"  # the cluster does not admit a Job: to evaluate, sign or delete
    RESULT_MISSING = "ResultMissing"  # the evaluation ended without a result
    BASE_MISSING = "BaseMissing"  # there is no such ModelVersion to be the base
    BASE_NOT_FULL = "BaseNotFull"  # the base is an adapter itself
    BASE_NOT_READY = "BaseNotReady"  # the base is not Ready
    IN_USE = "InUse"  # somebody serves it or builds on it; the message says who
    NOT_IN_USE = "NotInUse"  # nobody does
    DELETION_WAITS = "DeletionWaits"  # it is being deleted and somebody still uses it
    DELETING = "Deleting"  # it is being deleted
    APPROVED = "Approved"  # somebody has approved it; the message says who and why
    NOT_APPROVED = "NotApproved"  # nobody has approved it, or nobody who may
    REVOKED = "Revoked"  # its approval was taken back; the message says by whom and why
    RETIRED = "Retired"  # it cannot be newly referenced; the message says who retired it and why
    DELETION_DUE = "DeletionDue"  # its artifact will be deleted; the message says when
    STILL_REFERENCED = "StillReferenced"  # its artifact is kept; the message says by whom
    DELETING_ARTIFACT = "DeletingArtifact"  # its artifact is being deleted; there is no way back
    ARTIFACT_DELETED = "ArtifactDeleted"  # its artifact is gone; the version stays as a record
    NOT_RETIRED = "NotRetired"  # nobody has retired it, or it was approved after that
    QUARANTINED = (
        "Quarantined"  # its content is not served; the message says who decided so and why
    )
    NOT_QUARANTINED = "NotQuarantined"  # its content was never quarantined, or that was lifted


class DecisionReason(StrEnum):
    """Reasons of a Decision's condition Effective."""

    IN_FORCE = "InForce"  # the version's conditions rest on it
    SUPERSEDED = "Superseded"  # a later decision has the say
    TARGET_MISSING = (
        "TargetMissing"  # there is no such version, service or model; it counts as soon as there is
    )
    DIGEST_MISMATCH = "DigestMismatch"  # the artifact is not the one that was decided on
    WAITING = "Waiting"  # the service has not taken note of it yet
    AUTHOR_APPROVES = "AuthorApproves"  # its author has made the version; duties are separated here
    AUTHOR_UNKNOWN = "AuthorUnknown"  # duties are separated here, and nobody knows who made it


class ServiceReason(StrEnum):
    """Reasons of an InferenceService's conditions, beside those of `FailureReason`."""

    READY = "Ready"  # every public name was answered by its active version
    ENGINE_READY = "EngineReady"  # all engines are there
    GATEWAY_READY = "GatewayReady"  # all gateways are there
    ADAPTERS_READY = "AdaptersReady"  # every name has the version that was asked for
    VERSION_ACTIVE = "VersionActive"  # an Event: another version answers a public name
    PREPARING_BASE = "PreparingBase"  # the base is being fetched into the registry
    WAITS_FOR_BASE = "WaitsForBase"  # nothing can be started without the base
    STARTING = "Starting"  # pods are not ready yet
    ROLLING_OUT = "RollingOut"  # pods are being replaced
    SCALED_TO_ZERO = "ScaledToZero"  # replicas is 0
    CRASHING = "Crashing"  # a container ends again and again
    VOLUMES_MISSING = "VolumesMissing"  # a pod waits for a Secret that it mounts
    NODE_LOST = "NodeLost"  # the node of a pod does not answer
    CHILD_REFUSED = "ChildRefused"  # the cluster does not admit an object of the service
    VERSION_MISSING = "VersionMissing"  # there is no such ModelVersion
    NO_READY_VERSION = "NoReadyVersion"  # latestOf: no version of the model is Ready
    VERSION_NOT_READY = "VersionNotReady"  # the version is not Ready
    VERSION_DELETED = "VersionDeleted"  # the version is being deleted
    VERSION_NOT_APPROVED = "VersionNotApproved"  # the namespace asks for an approval that it lacks
    VERSION_NOT_SIGNED = "VersionNotSigned"  # the namespace asks for a signature that it lacks
    VERSION_RETIRED = "VersionRetired"  # the version is retired and was not served here before
    NOT_AN_ADAPTER = "NotAnAdapter"  # a full model needs engines of its own
    RANK_TOO_HIGH = "RankTooHigh"  # above spec.engine.adapters.maxRank
    NO_ENGINE_READY = "NoEngineReady"  # no engine could load it yet
    LOADING = "Loading"  # not every ready engine has loaded it yet
    LOAD_FAILED = "LoadFailed"  # an engine cannot load it and gives no reason
    SIGNATURES_NOT_VERIFIED = (
        "SignaturesNotVerified"  # an engine began before spec.signatures, or its release knows none
    )
    AGENT_SILENT = "AgentSilent"  # an engine's agent has not said what it holds
    PROBING = "Probing"  # a name was not yet answered by its active version
    PROBE_FAILED = "ProbeFailed"  # a request to a name failed
    VERSION_QUARANTINED = (
        "VersionQuarantined"  # its content was quarantined, by a rollback or by a person
    )
    VERSION_ABORTED = "VersionAborted"  # somebody has ended its rollout here
    NO_SPARE_CAPACITY = "NoSpareCapacity"  # there is no room for engines of another base beside the present ones; the message quotes the cluster
    REPLACING_ENGINES = "ReplacingEngines"  # the engines have made room for those of another base, as the spec allows; nothing answers
    REPLACEMENT_FAILED = "ReplacementFailed"  # engines of another base did not come up in the room that was made; the former ones come back
    BASE_CHANGING = "BaseChanging"  # adapters wait until the change of base is over
    BASE_IN_USE = "BaseInUse"  # a name that is served has no adapter of the new base that may be served, so that the present one stays
    BASE_WAITS = "BaseWaits"  # another base waits until the rollouts of adapters are over
    ENGINE_RELEASE_OUTDATED = (
        "EngineReleaseOutdated"  # engines of an older release know no other base; move them first
    )


class RolloutReason(StrEnum):
    """Reasons of RolloutProgressing and RolledBack, of `status.models[].rollout`, and of their Events."""

    NO_ROLLOUT = "NoRollout"  # no model is being rolled out
    STEPPING = "Stepping"  # the step's time or requests are not over, and nothing speaks against it
    GATHERING = "GatheringEvidence"  # the figures do not say yet whether it is worse or not
    PAUSED = "Paused"  # somebody has paused it; an alarm still rolls back
    GUARDING = "Guarding"  # it has all requests and is watched for the rollback window
    NOT_WORSE = "NotWorse"  # every metric shows that it is not worse by the margin
    PROMOTED_BY_DECISION = "PromotedByDecision"  # somebody has promoted it
    CANDIDATE_WORSE = "CandidateWorse"  # a metric shows that it is worse
    QUERY_FAILED = "QueryFailed"  # a query was beyond its bounds at three looks in a row
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # there was no verdict in time
    DRIFTED = "Drifted"  # its traffic has moved, and drift.onDrift is Rollback
    ABORTED = "Aborted"  # somebody has ended it
    QUARANTINED_BY_DECISION = (
        "QuarantinedByDecision"  # somebody has quarantined the version that answered
    )
    NOT_LOADED = "NotLoaded"  # an engine does not have the candidate; it gets no requests meanwhile
    DRY_RUN = "DryRun"  # there is a verdict, and nothing follows from it
    METRICS_UNAVAILABLE = "MetricsUnavailable"  # there is no Prometheus, or it does not answer
    NO_SERIES = "NoSeries"  # Prometheus has no counters of these gateways
    NO_TRAFFIC = "NoTraffic"  # one of the versions was asked nothing
    QUERY_UNDECIDED = (
        "QueryUndecided"  # a query gives no single number, or is out of its bounds only just now
    )
    STARTED = "RolloutStarted"  # an Event: a candidate has got its first share
    STEP_TAKEN = "RolloutStep"  # an Event: a candidate has got a larger share
    ENDED = "RolloutEnded"  # an Event: a rollout has ended without a verdict, since its candidate is wanted no more
    PROMOTED = "Promoted"  # an Event: a candidate has got all requests
    ROLLED_BACK = "RolledBack"  # a version lost its requests; the message has the numbers
    NOT_ROLLED_BACK = "NotRolledBack"  # no version that was rolled back is still waited for


class DriftReason(StrEnum):
    """Reasons of DriftDetected, of `status.models[].drift`, and of their Events."""

    NO_DRIFT = "NoDrift"  # the traffic is as it was, as far as the test can tell
    DRIFTING = "Drifting"  # the traffic has moved; the message says what, how far, and since when
    LEARNING = "Learning"  # too few requests of this version yet to know what is usual
    NO_VERSION = "NoVersion"  # no version answers this name yet
    NO_PROMETHEUS = "NoPrometheus"  # the operator was given no Prometheus to ask
    PROMETHEUS_UNAVAILABLE = "PrometheusUnavailable"  # Prometheus does not answer
    NO_SERIES = "NoSeries"  # Prometheus has no counters of these gateways for this version
    PROPOSED = "RetrainingProposed"  # an Event: a suspended FineTuneJob was made
    RETRAINING = "RetrainingStarted"  # an Event: a FineTuneJob was made and runs
    REEVALUATED = "Reevaluated"  # an Event: the version was evaluated again; the message says with what result
    NOT_REEVALUATED = (
        "NotReevaluated"  # an Event: its evaluation by schedule has failed; the message says why
    )
    NOT_RETRAINED = "NotRetrained"  # an Event: no FineTuneJob was made; the message says why


class AbuseReason(StrEnum):
    """Reasons of AbuseDetected and of its Events."""

    NO_UNUSUAL_KEY = "NoUnusualKey"  # every key asks for what it used to
    UNUSUAL_KEY = "UnusualKey"  # a key asks for far more than it used to, or for what is declined
    NO_PROMETHEUS = "NoPrometheus"  # the operator was given no Prometheus to ask
    PROMETHEUS_UNAVAILABLE = "PrometheusUnavailable"  # Prometheus does not answer
    NO_SERIES = "NoSeries"  # Prometheus has no series of these gateways


class LoadReason(StrEnum):
    """Reasons of an engine's agent about one version, beside those of `FailureReason`."""

    FINGERPRINT_MISMATCH = "FingerprintMismatch"  # the engine answers as another version would
    INDISTINGUISHABLE = (
        "Indistinguishable"  # it is served, but its base or a sibling looks the same
    )
    REPORT_MISSING = "ReportMissing"  # without a reference nothing can be verified
    ENGINE_REFUSED = "EngineRefused"  # vLLM did not load it; the message quotes it
