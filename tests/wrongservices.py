"""InferenceServices, and Decisions about what is served, that the API server must refuse."""

from tests.builders import DIGEST, Manifest, decision, inference_service
from tests.wrongdata import Wrong

SERVED = [{"name": "a", "version": {"name": "a-1"}}]
RETRAIN = {"template": {"name": "nightly"}}


def _rollout(**rollout: object) -> Manifest:
    return inference_service(models=[{**SERVED[0], "rollout": rollout}])


def _served(**changes: object) -> Manifest:
    """A model of a service that follows the newest version."""
    return {"name": "a", "version": {"latestOf": "a"}, **changes}


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
