"""FineTuneJobs that the API server must refuse."""

from tests.builders import (
    BASE_DIGEST,
    COMMIT,
    DIGEST,
    REGISTRY,
    Manifest,
    fine_tune_job,
    inline_dataset,
    pretraining_job,
)
from tests.wrongdata import TEACHER, Wrong

BASE_URI = f"oci://{REGISTRY}/base/tiny@{BASE_DIGEST}"
SCRATCH = {"hiddenSize": 64, "layers": 2, "heads": 2, "vocabularySize": 512, "contextLength": 128}
NOT_WORSE = {"notWorseThan": "Champion"}


def gates_of(*gates: Manifest) -> Manifest:
    return {"gates": list(gates)}


def _source(**changes: str | dict[str, str]) -> Manifest:
    return inline_dataset(sources=[{"uri": "configmap://pairs/train.jsonl", **changes}])


def _split(**shares: int) -> Manifest:
    return inline_dataset(split=shares)


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
            evaluation=gates_of({"metric": "Loss", "atMost": 1}),
            dataset=_split(train=95, validation=5, test=0),
        ),
        ("evaluation.gates", "set dataset.inline.split.test above 0"),
    ),
    "a gate without a bound": (
        fine_tune_job(evaluation=gates_of({"metric": "Loss"})),
        ("a gate needs exactly one of atLeast, atMost and notWorseThan",),
    ),
    "a gate with two bounds": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", "atLeast": 0.1, "atMost": 1})),
        ("a gate needs exactly one of atLeast, atMost and notWorseThan", "use atMost for Loss"),
    ),
    "a gate with a bound and a champion": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", "atLeast": 0.1, **NOT_WORSE})),
        ("a gate needs exactly one of atLeast, atMost and notWorseThan", "the champion"),
    ),
    "a gate against somebody else": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", "notWorseThan": "Base"})),
        ("spec.evaluation.gates[0].notWorseThan", 'supported values: "Champion"'),
    ),
    "a margin of a threshold": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", "atLeast": 0.1, "margin": 0.1})),
        ("margin belongs to notWorseThan", "remove margin"),
    ),
    "a confidence of a threshold": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", "atLeast": 0.1, "confidence": 0.9})),
        ("confidence belongs to notWorseThan", "remove confidence"),
    ),
    "a margin of nothing": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", **NOT_WORSE, "margin": 0})),
        ("spec.evaluation.gates[0].margin", "greater than 0"),
    ),
    "a confidence of certainty": (
        fine_tune_job(evaluation=gates_of({"metric": "Bleu", **NOT_WORSE, "confidence": 1})),
        ("spec.evaluation.gates[0].confidence", "confidence must lie between 0.8 and 0.995"),
    ),
    "a suite's figure against the champion": (
        fine_tune_job(
            evaluation={
                **gates_of({"metric": "BiasGap", **NOT_WORSE}),
                "suites": [{"name": "Bias"}],
            }
        ),
        ("notWorseThan compares figures of held-out data", "use atMost or atLeast"),
    ),
    "a gate on a suite that is not asked": (
        fine_tune_job(evaluation=gates_of({"metric": "RefusalRate", "atLeast": 0.9})),
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
        fine_tune_job(evaluation=gates_of({"metric": "JudgeWinRate", "atLeast": 0.5})),
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
        fine_tune_job(evaluation=gates_of({"metric": "HarnessScore", "atLeast": 0.5})),
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
        fine_tune_job(evaluation=gates_of({"metric": "Loss", "atLeast": 1})),
        ("need atMost", "replace atLeast"),
    ),
    "a score that must be low": (
        fine_tune_job(evaluation=gates_of({"metric": "RougeL", "atMost": 1})),
        ("need atLeast", "replace atMost"),
    ),
    "answers judged where there is only text": (
        pretraining_job(evaluation=gates_of({"metric": "RougeL", "atLeast": 0.1})),
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
