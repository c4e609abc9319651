"""Decision: look at the version that it is about, say what came of it. What follows is the version's affair."""

from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_operator.domain.decision.standing import effect
from trimtab_operator.domain.decision.status import events, status
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.domain.references import VERSION
from trimtab_operator.reconcilers.ports import Key, World


async def reconcile(key: Key, world: World) -> Outcome:
    """Say of one Decision whether something rests on it."""
    cluster = world.cluster
    decision = cluster.get(Decision, key)
    if decision is None or decision.metadata.deletion_timestamp:
        return Done()
    namespace, _ = key
    target = decision.spec.target.name
    told = status(
        decision,
        effect(
            decision,
            cluster.get(ModelVersion, (namespace, target)),
            cluster.referrers(Decision, (VERSION, namespace, target)),
            cluster.policy(namespace),
        ),
        world.clock.now(),
    )
    for event in events(decision, told):
        await cluster.emit(event)
    await cluster.write_status(decision, told)
    return Done()
