"""Decision: look at what it is about, say what came of it. What follows is that object's affair."""

from trimtab_api.v1alpha1 import Decision, InferenceService, ModelVersion
from trimtab_operator.domain.decision.standing import effect
from trimtab_operator.domain.decision.status import events, status
from trimtab_operator.domain.finding import Answer
from trimtab_operator.domain.inferenceservice import steering
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.domain.references import SERVICE, VERSION
from trimtab_operator.reconcilers.decided import decisions_about
from trimtab_operator.reconcilers.ports import Cluster, Key, World


async def reconcile(key: Key, world: World) -> Outcome:
    """Say of one Decision whether something rests on it."""
    cluster = world.cluster
    decision = cluster.get(Decision, key)
    if decision is None or decision.metadata.deletion_timestamp:
        return Done()
    told = status(decision, _effect(decision, cluster), world.clock.now())
    for event in events(decision, told):
        await cluster.emit(event)
    await cluster.write_status(decision, told)
    return Done()


def _effect(decision: Decision, cluster: Cluster) -> Answer:
    namespace, target = decision.metadata.namespace, decision.spec.target.name
    if decision.spec.target.kind == SERVICE:
        siblings = cluster.referrers(Decision, (SERVICE, namespace, target))
        return steering.effect(
            decision, cluster.get(InferenceService, (namespace, target)), siblings
        )
    version = cluster.get(ModelVersion, (namespace, target))
    siblings = (
        cluster.referrers(Decision, (VERSION, namespace, target))
        if version is None
        else decisions_about(version, cluster)
    )
    return effect(decision, version, siblings, cluster.policy(namespace))
