"""Names that more than one program must agree on."""

from typing import Final

GROUP: Final = "trimtab.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "trimtab"
FIELD_MANAGER: Final = "trimtab"

# Labels on every child object; selection goes by them, so their values stay below 63 characters.
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "trimtab"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_DATASET: Final = f"{GROUP}/dataset"
# On the pods of a RayJob, whose owner is a cluster of Ray: the RayJob's name.
LABEL_RAY_JOB: Final = f"{GROUP}/rayjob"
LABEL_JOB: Final = f"{GROUP}/finetunejob"
LABEL_MODEL_VERSION: Final = f"{GROUP}/modelversion"
LABEL_SERVICE: Final = f"{GROUP}/inferenceservice"
LABEL_MODEL: Final = f"{GROUP}/model"
# On a ModelVersion, for search: the first 12 hex digits of what it was trained on and from.
LABEL_DATASET_DIGEST: Final = f"{GROUP}/dataset-digest"
LABEL_BASE_DIGEST: Final = f"{GROUP}/base-digest"
# The same on everything that one drift has led to: Dataset, FineTuneJob, ModelVersion, Events.
LABEL_CORRELATION: Final = f"{GROUP}/correlation"
# On engines of another base than the first: which pool they belong to.
LABEL_POOL: Final = f"{GROUP}/pool"
LABEL_KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"

# Annotations that a user sets to ask for something that is no part of the wanted state.
ANNOTATION_RETRY: Final = f"{GROUP}/retry"
ANNOTATION_ENGINE_RELEASE: Final = f"{GROUP}/engine-release"
# Who created an object: set at admission, never changed.
ANNOTATION_AUTHOR: Final = f"{GROUP}/author"

# Why the operator has made an object that people look at.
ANNOTATION_REASON: Final = f"{GROUP}/reason"

# What a namespace asks for, as labels of it: "true", or as if they were not there.
LABEL_REQUIRE_APPROVAL: Final = f"{GROUP}/require-approval"
LABEL_REQUIRE_SIGNATURE: Final = f"{GROUP}/require-signature"
LABEL_SEPARATION_OF_DUTIES: Final = f"{GROUP}/separation-of-duties"

FINALIZER_IN_USE: Final = f"{GROUP}/in-use"

# Components, as the value of LABEL_COMPONENT.
PREPARE: Final = "prepare"
TRAIN: Final = "train"
EVALUATE: Final = "evaluate"
SIGN: Final = "sign"
DELETE: Final = "delete"
ENGINE: Final = "engine"
GATEWAY: Final = "gateway"
CAPTURE: Final = "capture"

# Exit codes of the pods' programs. A user error is final: trying again cannot help.
EXIT_USER_ERROR: Final = 42
EXIT_RETRYABLE: Final = 1
# The trainer was asked to stop (SIGTERM) and has written a checkpoint.
EXIT_INTERRUPTED: Final = 75

# Ports.
PORT_TRAINER: Final = 8080
PORT_AGENT: Final = 8000
PORT_ENGINE: Final = 8001  # bound to 127.0.0.1 inside the engine pod
PORT_GATEWAY: Final = 8080
PORT_GATEWAY_ADMIN: Final = 8081
PORT_OPERATOR_METRICS: Final = 8080

# Paths inside pods.
RUN_DOCUMENT: Final = "/etc/trimtab/run.json"
BASE_MODEL_PATH: Final = "/models/base"
CANDIDATE_MODEL_PATH: Final = "/models/candidate"
CONTENDER_MODEL_PATH: Final = "/models/contender"  # and a number
VOLUME_PATH: Final = "/volume"
CREDENTIALS_PATH: Final = "/credentials"
REGISTRY_CREDENTIALS_PATH: Final = f"{CREDENTIALS_PATH}/registry"
SIGNING_CREDENTIALS_PATH: Final = f"{CREDENTIALS_PATH}/signing"
TEACHER_CREDENTIALS_PATH: Final = f"{CREDENTIALS_PATH}/teacher"
JUDGE_CREDENTIALS_PATH: Final = f"{CREDENTIALS_PATH}/judge"
IDENTITY_TOKEN: Final = "token"  # noqa: S105 - a file in it, where Sigstore signs
TRUST_PATH: Final = "/trusted-signers"  # not below that of the run document: a read-only volume takes no mount inside
API_KEYS_PATH: Final = "/etc/trimtab/keys"
FEEDBACK_SECRET_PATH: Final = "/etc/trimtab/feedback"  # noqa: S105 - where one is mounted
CAPTURE_PATH: Final = "/capture"
TERMINATION_MESSAGE_PATH: Final = "/dev/termination-log"
TERMINATION_MESSAGE_BYTES: Final = 4096

# The table of the first engines; of everybody, where there are no others.
ROUTING_TABLE_KEY: Final = "table.json"
# The table of the gateways, where engines hold different bases.
GATEWAY_TABLE_KEY: Final = "gateway.json"
