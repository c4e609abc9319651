"""Trimtab's control plane.

Level-triggered: events put keys into queues (`handlers`, `adapters.reflector`), a queue runs one
reconciler per key (`workqueue`), and a reconciler gathers, decides and acts (`reconcilers`). All
decisions are pure functions (`domain`); all I/O stands behind the protocols of
`reconcilers.ports` (`adapters`). Nothing here may import the training stack.
"""
