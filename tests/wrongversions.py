"""ModelVersions that the API server must refuse."""

from tests.builders import DIGEST, REGISTRY, full_version, model_version
from tests.wrongdata import Wrong
from tests.wrongjobs import BASE_URI, NOT_WORSE, gates_of

VERSIONS: Wrong = {
    "an artifact by tag": (
        model_version(artifact={"uri": f"oci://{REGISTRY}/a:latest", "kind": "Adapter", "rank": 8}),
        ("spec.artifact.uri", "sha256"),
    ),
    "an artifact outside a registry": (
        model_version(artifact={"uri": f"s3://bucket/a@{DIGEST}", "kind": "Adapter", "rank": 8}),
        ("spec.artifact.uri", "oci://"),
    ),
    "an artifact of an unknown kind": (
        model_version(artifact={"uri": BASE_URI, "kind": "Merged"}),
        ("spec.artifact.kind", 'supported values: "Adapter", "Full"'),
    ),
    "an adapter without a base": (
        model_version(baseModel=None),
        ("baseModel is needed for artifact.kind Adapter", "state the model"),
    ),
    "an adapter with two bases": (
        model_version(baseModel={"uri": BASE_URI, "modelVersion": {"name": "a"}}),
        ("baseModel needs exactly one of uri and modelVersion", "remove the other"),
    ),
    "an adapter without a rank": (
        model_version(artifact={"uri": BASE_URI, "kind": "Adapter"}),
        ("artifact.rank is needed", "adapter_config.json"),
    ),
    "a full model with a base": (
        full_version(baseModel={"uri": BASE_URI}),
        ("baseModel belongs to adapters", "remove it"),
    ),
    "a full model with a rank": (
        full_version(artifact={"uri": BASE_URI, "kind": "Full", "rank": 8}),
        ("artifact.rank belongs to adapters", "remove it"),
    ),
    "a report by tag": (
        model_version(evaluation={"report": f"oci://{REGISTRY}/a:report"}),
        ("spec.evaluation.report", "sha256"),
    ),
    "a given report and a champion": (
        model_version(
            evaluation={
                "report": f"oci://{REGISTRY}/a@{DIGEST}",
                **gates_of({"metric": "Loss", **NOT_WORSE}),
            }
        ),
        ("evaluation.report knows nothing of this namespace's champion", "remove report"),
    ),
    "an evaluation on several GPUs": (
        model_version(evaluation={"resources": {"gpus": 2}}),
        ("spec.evaluation.resources.gpus", "resources.gpus must be 0 or 1", "set gpus: 1"),
    ),
    "a version that nobody is to sign": (
        model_version(signing={}),
        (
            "signing needs exactly one of key, certificate, sigstore and existing",
            "name what to sign",
        ),
    ),
    "a version that two are to sign": (
        model_version(signing={"key": {"secretName": "a"}, "certificate": {"secretName": "b"}}),
        ("spec.signing", "exactly one of key, certificate, sigstore and existing"),
    ),
    "an identity for no audience": (
        model_version(signing={"sigstore": {"trust": {"name": "a"}, "audience": ""}}),
        ("spec.signing.sigstore.audience", "at least 1"),
    ),
    "a signature that nobody is trusted for": (
        model_version(signing={"existing": {}}),
        ("spec.signing.existing.trust", "Required value"),
    ),
    "a version without a model": (model_version(model=None), ("spec.model", "Required value")),
    "a version with a long name": (
        model_version("a" * 64),
        ("metadata.name of ModelVersion must have at most 63 characters", "shorter"),
    ),
}
