"""Manifests that the API server must refuse, and what its answer must name: the field and the remedy."""

from tests.builders import (
    BASE_DIGEST,
    COMMIT,
    DIGEST,
    REGISTRY,
    Manifest,
    decision,
    fine_tune_job,
    full_version,
    inference_service,
    inline_dataset,
    model_version,
    pretraining_job,
)
from tests.wrongdata import DATASETS, TEACHER, Wrong

BASE_URI = f"oci://{REGISTRY}/base/tiny@{BASE_DIGEST}"
SCRATCH = {"hiddenSize": 64, "layers": 2, "heads": 2, "vocabularySize": 512, "contextLength": 128}
SERVED = [{"name": "a", "version": {"name": "a-1"}}]
RETRAIN = {"template": {"name": "nightly"}}


def _rollout(**rollout: object) -> Manifest:
    return inference_service(models=[{**SERVED[0], "rollout": rollout}])


NOT_WORSE = {"notWorseThan": "Champion"}


def _source(**changes: str | dict[str, str]) -> Manifest:
    return inline_dataset(sources=[{"uri": "configmap://pairs/train.jsonl", **changes}])


def _served(**changes: object) -> Manifest:
    """A model of a service that follows the newest version."""
    return {"name": "a", "version": {"latestOf": "a"}, **changes}


def _split(**shares: int) -> Manifest:
    return inline_dataset(split=shares)


def _gates(*gates: Manifest) -> Manifest:
    return {"gates": list(gates)}


JOBS: Wrong = {
    "a job without a method": (
        fine_tune_job(method={}),
        ("method needs exactly one of lora, qlora and full", "method: {lora: {}}"),
    ),
    "a job with two methods": (
        fine_tune_job(method={"lora": {}, "full": {}}),
        ("exactly one of lora, qlora and full", "remove the others"),
    ),
    "a job without a base": (
        fine_tune_job(baseModel={}),
        ("baseModel needs exactly one of uri, modelVersion and scratch", "remove the others"),
    ),
    "a job with two bases": (
        fine_tune_job(baseModel={"uri": BASE_URI, "modelVersion": {"name": "a"}}),
        ("baseModel needs exactly one of", "remove the others"),
    ),
    "a base of an unknown scheme": (
        fine_tune_job(baseModel={"uri": "ftp://host/model"}),
        ("baseModel.uri", "hf://org/name", "pvc://"),
    ),
    "a base on a local path": (
        fine_tune_job(baseModel={"uri": "/models/llama"}),
        ("baseModel.uri", "use one of"),
    ),
    "a hub base without an organisation": (
        fine_tune_job(baseModel={"uri": "hf://gpt2", "revision": COMMIT}),
        ("baseModel.uri", "hf://org/name"),
    ),
    "a hub base without a revision": (
        fine_tune_job(baseModel={"uri": "hf://org/name"}),
        ("baseModel.revision", "full commit"),
    ),
    "a hub base at a branch": (
        fine_tune_job(baseModel={"uri": "hf://org/name", "revision": "main"}),
        ("baseModel.revision", "would move"),
    ),
    "a registry base with a revision": (
        fine_tune_job(baseModel={"uri": BASE_URI, "revision": COMMIT}),
        ("baseModel.revision belongs to hf://", "remove it"),
    ),
    "credentials without an address": (
        fine_tune_job(
            baseModel={"modelVersion": {"name": "a"}, "credentials": {"secretName": "s"}}
        ),
        ("baseModel.credentials", "remove them"),
    ),
    "a model from scratch that is not pretrained": (
        pretraining_job(objective="Supervised", dataset=inline_dataset()),
        ("baseModel.scratch", "set objective: Pretraining"),
    ),
    "a model from scratch with an adapter": (
        pretraining_job(method={"lora": {}}),
        ("baseModel.scratch", "set method: {full: {}}"),
    ),
    "a width that heads do not divide": (
        pretraining_job(baseModel={"scratch": {**SCRATCH, "heads": 5}}),
        ("scratch.hiddenSize must be a multiple of scratch.heads", "change one"),
    ),
    "heads of an odd width": (
        pretraining_job(baseModel={"scratch": {**SCRATCH, "hiddenSize": 66, "heads": 2}}),
        ("scratch.hiddenSize divided by scratch.heads must be even", "change one"),
    ),
    "heads that are too narrow to be served": (
        pretraining_job(baseModel={"scratch": {**SCRATCH, "heads": 4}}),
        ("scratch.hiddenSize divided by scratch.heads must be at least 32", "use fewer heads"),
    ),
    "sequences beyond the new model's context": (
        pretraining_job(hyperparameters={"maxLength": 129}),
        (
            "hyperparameters.maxLength must not exceed baseModel.scratch.contextLength",
            "set maxLength",
        ),
    ),
    "the default length beyond the new model's context": (
        pretraining_job(hyperparameters=None),
        ("hyperparameters.maxLength", "set maxLength"),
    ),
    "pretraining on questions": (
        pretraining_job(dataset=inline_dataset(task="Instruction")),
        ("dataset.inline.task: Text", "set"),
    ),
    "supervised training on plain text": (
        fine_tune_job(dataset=inline_dataset(task="Text")),
        ("dataset.inline.task to Instruction or Chat",),
    ),
    "an unknown task": (
        fine_tune_job(dataset=inline_dataset(task="Ranking")),
        (
            "spec.dataset.inline.task",
            'supported values: "Instruction", "Chat", "Preference", "Text"',
        ),
    ),
    "supervised training on pairs of answers": (
        fine_tune_job(dataset=inline_dataset(task="Preference")),
        ("dataset.inline.task to Instruction or Chat",),
    ),
    "a job without data": (
        fine_tune_job(dataset={}),
        ("dataset needs exactly one of inline and name", "remove the other"),
    ),
    "a job with data of its own and a Dataset": (
        fine_tune_job(dataset={**inline_dataset(), "name": "tickets"}),
        ("dataset needs exactly one of inline and name", "remove the other"),
    ),
    "no sources": (
        fine_tune_job(dataset=inline_dataset(sources=[])),
        ("spec.dataset.inline.sources", "at least 1 items"),
    ),
    "too many sources": (
        fine_tune_job(dataset=inline_dataset(sources=[{"uri": "configmap://a/b"}] * 33)),
        ("spec.dataset.inline.sources", "at most 32 items"),
    ),
    "data of an unknown scheme": (
        fine_tune_job(dataset=_source(uri="file:///data.jsonl")),
        ("uri is not an address", "configmap://name/key"),
    ),
    "a ConfigMap without a key": (
        fine_tune_job(dataset=_source(uri="configmap://pairs")),
        ("uri is not an address", "configmap://name/key"),
    ),
    "hub data without a revision": (
        fine_tune_job(dataset=_source(uri="hf://datasets/org/name/x.jsonl")),
        ("sources.revision must be the full commit",),
    ),
    "data in a bucket with a revision": (
        fine_tune_job(dataset=_source(uri="s3://bucket/x.jsonl", revision=COMMIT)),
        ("sources.revision", "remove it"),
    ),
    "credentials for a ConfigMap": (
        fine_tune_job(dataset=_source(credentials={"secretName": "s"})),
        ("credentials are of no use for configmap://", "remove them"),
    ),
    "shares that add up to 99": (
        fine_tune_job(dataset=_split(train=90, validation=5, test=4)),
        ("split.train, split.validation and split.test must add up to 100", "state all three"),
    ),
    "one share without the others": (
        fine_tune_job(dataset=_split(train=80)),
        ("must add up to 100", "state all three"),
    ),
    "early stopping without validation data": (
        fine_tune_job(earlyStopping={}, dataset=_split(train=95, validation=0, test=5)),
        ("earlyStopping", "set dataset.inline.split.validation above 0"),
    ),
    "gates without test data": (
        fine_tune_job(
            evaluation=_gates({"metric": "Loss", "atMost": 1}),
            dataset=_split(train=95, validation=5, test=0),
        ),
        ("evaluation.gates", "set dataset.inline.split.test above 0"),
    ),
    "a gate without a bound": (
        fine_tune_job(evaluation=_gates({"metric": "Loss"})),
        ("a gate needs exactly one of atLeast, atMost and notWorseThan",),
    ),
    "a gate with two bounds": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", "atLeast": 0.1, "atMost": 1})),
        ("a gate needs exactly one of atLeast, atMost and notWorseThan", "use atMost for Loss"),
    ),
    "a gate with a bound and a champion": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", "atLeast": 0.1, **NOT_WORSE})),
        ("a gate needs exactly one of atLeast, atMost and notWorseThan", "the champion"),
    ),
    "a gate against somebody else": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", "notWorseThan": "Base"})),
        ("spec.evaluation.gates[0].notWorseThan", 'supported values: "Champion"'),
    ),
    "a margin of a threshold": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", "atLeast": 0.1, "margin": 0.1})),
        ("margin belongs to notWorseThan", "remove margin"),
    ),
    "a confidence of a threshold": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", "atLeast": 0.1, "confidence": 0.9})),
        ("confidence belongs to notWorseThan", "remove confidence"),
    ),
    "a margin of nothing": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", **NOT_WORSE, "margin": 0})),
        ("spec.evaluation.gates[0].margin", "greater than 0"),
    ),
    "a confidence of certainty": (
        fine_tune_job(evaluation=_gates({"metric": "Bleu", **NOT_WORSE, "confidence": 1})),
        ("spec.evaluation.gates[0].confidence", "confidence must lie between 0.8 and 0.995"),
    ),
    "a suite's figure against the champion": (
        fine_tune_job(
            evaluation={**_gates({"metric": "BiasGap", **NOT_WORSE}), "suites": [{"name": "Bias"}]}
        ),
        ("notWorseThan compares figures of held-out data", "use atMost or atLeast"),
    ),
    "a gate on a suite that is not asked": (
        fine_tune_job(evaluation=_gates({"metric": "RefusalRate", "atLeast": 0.9})),
        ("need the suite Safety", "add it to evaluation.suites"),
    ),
    "a suite that is asked twice": (
        fine_tune_job(evaluation={"suites": [{"name": "Bias"}, {"name": "Bias"}]}),
        ("spec.evaluation.suites[1]", "Duplicate value"),
    ),
    "a suite that nobody knows": (
        fine_tune_job(evaluation={"suites": [{"name": "Charm"}]}),
        ("spec.evaluation.suites[0].name", "supported values"),
    ),
    "a judge who is nobody": (
        fine_tune_job(evaluation={"suites": [{"name": "Judge"}]}),
        ("judge belongs to the suite Judge, which needs it",),
    ),
    "a judge for another suite": (
        fine_tune_job(evaluation={"suites": [{"name": "Bias", "judge": {"endpoint": TEACHER}}]}),
        ("judge belongs to the suite Judge", "remove it"),
    ),
    "a judge with cases": (
        fine_tune_job(
            evaluation={
                "suites": [
                    {
                        "name": "Judge",
                        "judge": {"endpoint": TEACHER},
                        "uri": f"oci://{REGISTRY}/cases@{DIGEST}",
                    }
                ]
            }
        ),
        ("the suite Judge looks at the held-out data", "remove uri"),
    ),
    "a gate on a judge that is not asked": (
        fine_tune_job(evaluation=_gates({"metric": "JudgeWinRate", "atLeast": 0.5})),
        ("evaluation.gates on JudgeWinRate need the suite Judge", "add it to evaluation.suites"),
    ),
    "a harness without tasks' files": (
        fine_tune_job(
            evaluation={"suites": [{"name": "Harness", "harness": {"tasks": ["capitals"]}}]}
        ),
        ("no tasks ship for the suite Harness", "set uri"),
    ),
    "a harness that asks nothing": (
        fine_tune_job(
            evaluation={"suites": [{"name": "Harness", "uri": f"oci://{REGISTRY}/tasks@{DIGEST}"}]}
        ),
        ("harness belongs to the suite Harness, which needs it",),
    ),
    "a harness that asks a task twice": (
        fine_tune_job(
            evaluation={
                "suites": [
                    {
                        "name": "Harness",
                        "uri": f"oci://{REGISTRY}/tasks@{DIGEST}",
                        "harness": {"tasks": ["capitals", "capitals"]},
                    }
                ]
            }
        ),
        ("harness.tasks has a task twice", "name each of them once"),
    ),
    "a gate on a harness that is not asked": (
        fine_tune_job(evaluation=_gates({"metric": "HarnessScore", "atLeast": 0.5})),
        ("evaluation.gates on HarnessScore need the suite Harness", "add it to evaluation.suites"),
    ),
    "a suite by tag": (
        fine_tune_job(
            evaluation={"suites": [{"name": "Bias", "uri": f"oci://{REGISTRY}/suites:latest"}]}
        ),
        ("spec.evaluation.suites[0].uri", "sha256"),
    ),
    "more examples than are compared": (
        fine_tune_job(evaluation={"maxExamples": 5001}),
        ("spec.evaluation.maxExamples", "less than or equal to 5000"),
    ),
    "an evaluation without time": (
        fine_tune_job(evaluation={"activeDeadlineSeconds": 0}),
        ("spec.evaluation.activeDeadlineSeconds", "greater than or equal to 1"),
    ),
    "a loss that must be high": (
        fine_tune_job(evaluation=_gates({"metric": "Loss", "atLeast": 1})),
        ("need atMost", "replace atLeast"),
    ),
    "a score that must be low": (
        fine_tune_job(evaluation=_gates({"metric": "RougeL", "atMost": 1})),
        ("need atLeast", "replace atMost"),
    ),
    "answers judged where there is only text": (
        pretraining_job(evaluation=_gates({"metric": "RougeL", "atLeast": 0.1})),
        ("evaluation.gates of task Text", "change the metric"),
    ),
    "a rank of zero": (
        fine_tune_job(method={"lora": {"rank": 0}}),
        ("spec.method.lora.rank", "greater than or equal to 1"),
    ),
    "a dropout of one": (
        fine_tune_job(method={"lora": {"dropout": 1}}),
        ("spec.method.lora.dropout", "less than 1"),
    ),
    "a learning rate of zero": (
        fine_tune_job(hyperparameters={"learningRate": 0}),
        ("spec.hyperparameters.learningRate", "greater than 0"),
    ),
    "a batch size in words": (
        fine_tune_job(hyperparameters={"batchSize": "eight"}),
        ("spec.hyperparameters.batchSize", "integer"),
    ),
    "memory without a known unit": (
        fine_tune_job(resources={"memory": "32GB"}),
        ("spec.resources.memory", "should match"),
    ),
    "training on several GPUs": (
        fine_tune_job(resources={"gpus": 2}),
        ("spec.resources.gpus", "resources.gpus must be 0 or 1", "set gpus: 1"),
    ),
    "fewer than no GPUs": (
        fine_tune_job(resources={"gpus": -1}),
        ("spec.resources.gpus", "greater than or equal to 0"),
    ),
    "an output that is no label": (
        fine_tune_job(output={"model": "Support_Bot"}),
        ("spec.output.model", "should match"),
    ),
    "a variable that is set twice": (
        fine_tune_job(pod={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        ("spec.pod.env[1]", "Duplicate value"),
    ),
    "a job with a long name": (
        fine_tune_job("a" * 53),
        ("metadata.name of FineTuneJob must have at most 52 characters", "shorter"),
    ),
    "a job with a dot in its name": (
        fine_tune_job("a.b"),
        ("metadata.name of FineTuneJob", "without dots"),
    ),
}

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
                **_gates({"metric": "Loss", **NOT_WORSE}),
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

SERVICES: Wrong = {
    "a service that demands signatures of nobody": (
        inference_service(signatures={}),
        ("spec.signatures.trust", "Required value"),
    ),
    "a subject that is none": (
        inference_service(
            signatures={"trust": {"name": "signers"}, "certificateSubjects": ["release"]}
        ),
        ("spec.signatures.certificateSubjects[0]", "should match"),
    ),
    "a signed base that is no version": (
        inference_service(
            baseModel={"name": "a", "uri": f"oci://registry/base@{DIGEST}"},
            signatures={"trust": {"name": "signers"}, "covers": "AdaptersAndBase"},
        ),
        ("spec.signatures.covers", "name it in baseModel.modelVersion"),
    ),
    "a service without a base": (
        inference_service(baseModel={"name": "a"}),
        ("baseModel needs exactly one of uri and modelVersion",),
    ),
    "a rollout of a base that has an address": (
        inference_service(baseModel={"name": "a", "uri": "oci://r/a:1", "rollout": {}}),
        ("baseModel.rollout is about changes of baseModel.modelVersion", "remove rollout"),
    ),
    "a base that is given up at once": (
        inference_service(
            baseModel={
                "name": "a",
                "modelVersion": {"name": "b"},
                "rollout": {"schedulingDeadlineSeconds": 1},
            }
        ),
        ("spec.baseModel.rollout.schedulingDeadlineSeconds", "greater than or equal to 10"),
    ),
    "a served base at a branch": (
        inference_service(baseModel={"name": "a", "uri": "hf://org/name", "revision": "main"}),
        ("baseModel.revision must be the full commit",),
    ),
    "more parallel parts than GPUs": (
        inference_service(engine={"gpus": 1, "tensorParallel": 2}),
        ("engine.tensorParallel must not exceed engine.gpus", "raise gpus"),
    ),
    "fewer resident adapters than slots": (
        inference_service(engine={"adapters": {"slots": 8, "resident": 4}}),
        ("engine.adapters.resident must be at least engine.adapters.slots", "raise resident"),
    ),
    "steps that do not grow": (
        _rollout(steps=[{"weight": 50}, {"weight": 5}]),
        ("rollout.steps must grow", "give each a higher weight"),
    ),
    "the same step twice": (
        _rollout(steps=[{"weight": 5}, {"weight": 5}]),
        ("rollout.steps must grow", "give each a higher weight"),
    ),
    "a step to all requests": (
        _rollout(steps=[{"weight": 100}]),
        ("spec.models[0].rollout.steps[0].weight", "less than or equal to 99"),
    ),
    "a rollout without a step": (
        _rollout(steps=[]),
        ("spec.models[0].rollout.steps", "at least 1 items"),
    ),
    "an unknown metric": (
        _rollout(analysis={"metrics": ["Charm"]}),
        ("spec.models[0].rollout.analysis.metrics[0]", "supported values", "ErrorRate"),
    ),
    "a metric twice": (
        _rollout(analysis={"metrics": ["Refusals", "Refusals"]}),
        ("analysis.metrics has a metric twice", "name each once"),
    ),
    "a query without bounds": (
        _rollout(analysis={"queries": [{"name": "price", "query": "up"}]}),
        ("analysis.queries need atMost or atLeast", "add one"),
    ),
    "a rate of false alarms that means nothing": (
        _rollout(analysis={"falseAlarmRate": 0.9}),
        ("spec.models[0].rollout.analysis.falseAlarmRate", "less than or equal to 0.2"),
    ),
    "a promotion by the deadline": (
        _rollout(analysis={"onInconclusive": "Promote"}),
        ("spec.models[0].rollout.analysis.onInconclusive", "supported values", "Hold", "RollBack"),
    ),
    "two models of one name": (
        inference_service(models=SERVED * 2),
        ("spec.models[1]", "Duplicate value"),
    ),
    "a model named like the base": (
        inference_service(models=[{"name": "tiny", "version": {"name": "a-1"}}]),
        ("models.name must not be baseModel.name", "rename"),
    ),
    "a model without a version": (
        inference_service(models=[{"name": "a", "version": {}}]),
        ("models.version needs exactly one of name and latestOf", "follow a model"),
    ),
    "a model with two versions": (
        inference_service(models=[{"name": "a", "version": {"name": "a-1", "latestOf": "a"}}]),
        ("models.version needs exactly one of name and latestOf", "name a ModelVersion"),
    ),
    "an unknown number format": (
        inference_service(engine={"dtype": "Int8"}),
        ("spec.engine.dtype", "supported values"),
    ),
    "too many models": (
        inference_service(
            models=[{"name": f"m{n}", "version": {"latestOf": "a"}} for n in range(257)]
        ),
        ("spec.models", "at most 256 items"),
    ),
    "feedback that nobody can prove to be his": (
        inference_service(gateway={"feedback": {}}),
        ("gateway.feedback needs", "set gateway.apiKeys or gateway.feedback.secret"),
    ),
    "exchanges that are kept for nothing": (
        inference_service(gateway={"apiKeys": {"secretName": "keys"}, "capture": {}}),
        ("gateway.capture needs gateway.feedback", "remove gateway.capture"),
    ),
    "exchanges that are kept for an hour": (
        inference_service(
            gateway={
                "apiKeys": {"secretName": "keys"},
                "feedback": {},
                "capture": {"retentionSeconds": 3600},
            }
        ),
        ("spec.gateway.capture.retentionSeconds", "greater than or equal to 7200"),
    ),
    "keys that cannot be told apart": (
        inference_service(gateway={"abuse": {}}),
        ("gateway.abuse tells callers apart by their keys", "set gateway.apiKeys"),
    ),
    "a limit of nothing": (
        inference_service(
            gateway={"apiKeys": {"secretName": "keys"}, "abuse": {"requestsPerMinute": 0}}
        ),
        ("spec.gateway.abuse.requestsPerMinute", "greater than or equal to 1"),
    ),
    "an unknown way to meet abuse": (
        inference_service(
            gateway={"apiKeys": {"secretName": "keys"}, "abuse": {"onAbuse": "Block"}}
        ),
        ("spec.gateway.abuse.onAbuse", "Alert", "Throttle"),
    ),
    "ratings that nobody takes": (
        inference_service(models=[_served(drift={"signals": ["NegativeFeedback"]})]),
        ("drift.signals NegativeFeedback needs feedback to count", "set gateway.feedback"),
    ),
    "a template for a rollback": (
        inference_service(models=[_served(drift={"onDrift": "Rollback"}, retrain=RETRAIN)]),
        ("retrain is for drift.onDrift Propose or Retrain", "remove retrain"),
    ),
    "an evaluation every minute": (
        inference_service(models=[_served(drift={"reevaluate": {"everySeconds": 60}})]),
        ("drift.reevaluate.everySeconds", "greater than or equal to 3600"),
    ),
    "an evaluation that is longer than the time to the next": (
        inference_service(
            models=[_served(drift={"reevaluate": {"everySeconds": 3600, "deadlineSeconds": 7200}})]
        ),
        ("reevaluate.deadlineSeconds must not be longer than", "shorten it"),
    ),
    "an evaluation that may lose nothing": (
        inference_service(models=[_served(drift={"reevaluate": {"margin": 0}})]),
        ("drift.reevaluate.margin", "greater than 0"),
    ),
    "a proposal of what": (
        inference_service(models=[_served(drift={"onDrift": "Propose"})]),
        ("drift.onDrift Propose and Retrain need retrain.template", "onDrift: Alert"),
    ),
    "a retraining for nobody": (
        inference_service(
            models=[_served(drift={"onDrift": "Retrain"}, retrain=RETRAIN, version={"name": "a-1"})]
        ),
        ("drift.onDrift Retrain is of use only", "version.latestOf"),
    ),
    "a retraining without drift": (
        inference_service(models=[_served(retrain=RETRAIN)]),
        ("retrain is for drift.onDrift Propose or Retrain", "remove retrain"),
    ),
    "a retraining on an alert": (
        inference_service(models=[_served(drift={"onDrift": "Alert"}, retrain=RETRAIN)]),
        ("retrain is for drift.onDrift Propose or Retrain", "remove retrain"),
    ),
    "no signal": (
        inference_service(models=[_served(drift={"signals": []})]),
        ("drift.signals", "at least 1"),
    ),
    "the same signal twice": (
        inference_service(models=[_served(drift={"signals": ["Topics", "Topics"]})]),
        ("drift.signals has a signal twice", "name each once"),
    ),
    "a signal that nobody counts": (
        inference_service(models=[_served(drift={"signals": ["Mood"]})]),
        ("drift.signals[0]", "supported values"),
    ),
    "a false alarm every minute": (
        inference_service(models=[_served(drift={"requestsPerFalseAlarm": 100})]),
        ("requestsPerFalseAlarm", "greater than or equal to 10000"),
    ),
    "a budget of no jobs": (
        inference_service(
            models=[
                _served(drift={"onDrift": "Retrain"}, retrain={**RETRAIN, "budget": {"jobs": 0}})
            ]
        ),
        ("retrain.budget.jobs", "greater than or equal to 1"),
    ),
    "a template without a name": (
        inference_service(models=[_served(drift={"onDrift": "Propose"}, retrain={})]),
        ("retrain.template", "Required value"),
    ),
    "no gateways": (
        inference_service(gateway={"replicas": 0}),
        ("spec.gateway.replicas", "greater than or equal to 1"),
    ),
    "a service with a long name": (
        inference_service("a" * 53),
        ("metadata.name of InferenceService must have at most 52 characters", "shorter"),
    ),
    "a service whose name begins with a digit": (
        inference_service("1a"),
        ("metadata.name of InferenceService", "begin with a letter"),
    ),
}

TARGET = {"kind": "ModelVersion", "name": "a-1", "digest": DIGEST}

SERVED_TARGET = {"kind": "InferenceService", "name": "chat", "model": "a"}
DECISIONS: Wrong = {
    "a decision of an unknown kind": (
        decision(action="Bless"),
        ("spec.action", "supported values", "Approve", "Retire", "Promote"),
    ),
    "a decision about something else": (
        decision(target={**TARGET, "kind": "Dataset"}),
        ("spec.target.kind", "supported values", "ModelVersion"),
    ),
    "an approval of a service": (
        decision(target={**SERVED_TARGET, "digest": DIGEST}),
        ("spec.target.kind must be ModelVersion for Approve", "change one of the two"),
    ),
    "a promotion of a version as such": (
        decision(action="Promote"),
        ("spec.target.kind must be ModelVersion for Approve", "InferenceService for the others"),
    ),
    "a decision about no content": (
        decision(target={"kind": "ModelVersion", "name": "a-1"}),
        ("spec.target.digest says which version is meant", "add it"),
    ),
    "a promotion of whatever is there": (
        decision(action="Promote", target=SERVED_TARGET),
        ("spec.target.digest says which version is meant", "add it"),
    ),
    "a pause of one version": (
        decision(action="Pause", target={**SERVED_TARGET, "digest": DIGEST}),
        ("spec.target.digest", "leave it out of Pause and Resume"),
    ),
    "a pause of a whole service": (
        decision(action="Pause", target={"kind": "InferenceService", "name": "chat"}),
        ("target.model is the public name", "name it there"),
    ),
    "a quarantine with a model": (
        decision(action="Quarantine", target={**TARGET, "model": "a"}),
        ("target.model is the public name", "nowhere else"),
    ),
    "a decision about a tag": (
        decision(target={**TARGET, "digest": "latest"}),
        ("spec.target.digest", "sha256:"),
    ),
    "a decision by nobody": (decision(by=None), ("spec.by", "Required value")),
    "a decision without a reason": (decision(reason=""), ("spec.reason", "at least 1 chars")),
    "a decision with a novel": (decision(reason="a" * 1025), ("spec.reason", "1024")),
}

REFUSED: Wrong = {**DATASETS, **JOBS, **VERSIONS, **SERVICES, **DECISIONS}
