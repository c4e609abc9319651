"""One run of the scenario under a plan: who stands where, and what is looked at when it is over.

user, kubelet ───────────────► API server ◄── TLS, the chart's roles ── proxy ◄── operator(s)
                                                                          └── does what the plan says
"""

import itertools
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml
from tests.builders import Manifest
from tests.faults import oracles
from tests.faults.controlplane import ControlPlane
from tests.faults.operators import Replica
from tests.faults.oracles import State
from tests.faults.plans import Fault, Plan
from tests.faults.proxy import Call
from tests.faults.scenario import Models, User
from tests.faults.surroundings import Surroundings, surroundings
from tests.operatorkit import ROOT, Server

from trimtab_local import render
from trimtab_local.layout import layout_from

CHART: Final = ROOT / "charts" / "trimtab"
SYSTEM: Final = "trimtab-system"
INSTALLED: Final = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }
)
# Much longer than it takes: on a machine that is busy with other things nothing is late by itself.
AT_REST_WITHIN_SECONDS: Final = 180.0
RESYNC_SECONDS: Final = 2
# Long enough for two resyncs, and for whatever looks again after a while.
QUIET_SECONDS: Final = 5.0
BEGUN_WITHIN_SECONDS: Final = 120.0
CLOCK_TURNED_EVERY: Final = 5  # writes
# Whoever begins, knows nothing of what the one before was told.
FORGETTING: Final = ("kill", "restart-at-rest", "two-operators")


def rendered_chart(registry: str) -> list[Manifest]:
    """What Helm would install, but for its hooks."""
    command = [
        str(layout_from(os.environ).programs / "helm"),
        *("template", "trimtab", str(CHART), f"--namespace={SYSTEM}", "--no-hooks"),
        f"--values={CHART / 'ci' / 'local-values.yaml'}",
        *("--set", f"registry.prefix={registry}/trimtab,registry.plainHttp=true"),
        *("--set", f"operator.resyncSeconds={RESYNC_SECONDS}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def installed(plane: ControlPlane, chart: Sequence[Manifest]) -> tuple[str, Manifest]:
    """The chart's kinds and roles are there; the operator's token and its settings."""
    plane.install([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}])
    plane.install([m for m in chart if m["kind"] in INSTALLED])
    (account,) = [m["metadata"]["name"] for m in chart if m["kind"] == "ServiceAccount"]
    settings: Manifest = next(
        json.loads(m["data"]["operator.json"]) for m in chart if m["kind"] == "ConfigMap"
    )
    return plane.token(SYSTEM, account), settings


@dataclass
class Outcome:
    """How a run ended. `faults` is empty when nothing is wrong with it."""

    plan: Plan
    state: State = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    writes: int = 0
    starts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Bench:
    """A control plane with the chart's roles, and a registry with a few models."""

    def __init__(
        self, plane: ControlPlane, registry: str, models: Models, chart: Sequence[Manifest]
    ) -> None:
        self.used: set[oracles.Right] = set()
        self.injected: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.granted = oracles.granted(chart)
        self._plane = plane
        self._registry = registry
        self._models = models
        self._token, self._settings = installed(plane, chart)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return f"{told}, {self.injected.total()} faults: {dict(self.injected.most_common())}"

    def run(self, plan: Plan, folder: Path, calm: Outcome | None = None) -> Outcome:
        """The scenario under this plan, held against an undisturbed run."""
        began = time.monotonic()
        folder.mkdir()
        server = Server(str(self._plane.kubeconfig))
        outcome = Outcome(plan)
        try:
            with surroundings(self._plane, server.namespace) as around:
                outcome.calls = around.proxy.calls
                replicas = self._replicas(plan, server.namespace, folder, around)
                user = User(server, around.kubelet, self._models)
                _Run(outcome, around, replicas, self._registry, calm).play(user)
                outcome.writes = around.proxy.writes
                self.injected += around.proxy.injected
        finally:
            server.close()
        self.used |= oracles.rights_used(outcome.calls)
        outcome.faults += oracles.not_allowed(outcome.calls)
        outcome.faults += oracles.unguarded(outcome.calls)
        outcome.faults += oracles.said_twice(outcome.calls)
        outcome.faults += oracles.went_back(outcome.calls)
        if not any(plan.having(kind) for kind in FORGETTING):
            outcome.faults += oracles.asked_too_soon(outcome.calls)
        for replica in replicas:
            outcome.faults += oracles.complaints(replica.log)
            outcome.faults += [f"the operator ended with code {code}" for code in replica.crashes]
            outcome.starts += replica.starts
            self.injected["kill"] += replica.starts - 1
        outcome.seconds = time.monotonic() - began
        self.counts += Counter(
            runs=1,
            writes=outcome.writes,
            requests=len(outcome.calls),
            violations=len(outcome.faults),
        )
        return outcome

    def _replicas(
        self, plan: Plan, namespace: str, folder: Path, around: Surroundings
    ) -> list[Replica]:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(operator_kubeconfig(around.address, self._token))
        names = ("first", "second") if plan.having("two-operators") else ("only",)
        settings = self._settings | {"watchNamespaces": [namespace]}
        # Who is alone need not wait until the lease of one that was killed has lapsed.
        election = {"enabled": len(names) > 1}
        settings["leaderElection"] = settings["leaderElection"] | election
        return [Replica(folder, name, kubeconfig, settings) for name in names]


@dataclass
class _Run:
    """One run while it goes on."""

    outcome: Outcome
    around: Surroundings
    replicas: Sequence[Replica]
    registry: str
    calm: Outcome | None

    def play(self, user: User) -> None:
        """The scenario, then rest, then the verdict."""
        plan = self.outcome.plan
        self._disturb(plan)
        for replica in self.replicas:
            replica.start()
        try:
            user.act(with_foreign_finalizers=plan.having("foreign-finalizer") is not None)
            self._calm_down()
            self._judge()
            if plan.having("restart-at-rest"):
                self._restart()
        except AssertionError as error:
            self.outcome.faults.append(str(error))
        finally:
            for replica in self.replicas:
                replica.stop()
            self.around.let_go()

    def _disturb(self, plan: Plan) -> None:
        kill, clock = plan.having("kill"), plan.having("clock-jumps")
        offsets = itertools.cycle((clock.seconds, -clock.seconds, 0.0)) if clock else iter(())
        first = self.replicas[0]

        def written(number: int) -> None:
            if kill and _is_its_turn(kill, number):
                first.kill()
            if clock and number % CLOCK_TURNED_EVERY == 0:
                first.turn_clock(next(offsets))

        self.around.proxy.behave(plan)
        self.around.proxy.after_write = written

    def _calm_down(self) -> None:
        self.around.proxy.behave(Plan(self.outcome.plan.seed))
        self.around.proxy.after_write = lambda _: None
        self.replicas[0].turn_clock(0)

    def _judge(self) -> None:
        outcome, calm = self.outcome, self.calm
        if calm is not None:
            outcome.faults += _lasting(lambda: oracles.differences(calm.state, self._state()))
            more = oracles.deletions(outcome.calls) - oracles.deletions(calm.calls)
            outcome.faults += [f"the operator has deleted {name}" for name in sorted(more)]
        self._come_to_rest()
        objects = self.around.objects()
        outcome.state = self._state()
        outcome.faults += oracles.untrue_conditions(objects)
        living = [each["metadata"]["uid"] for each in objects]
        outcome.faults += oracles.made_twice(outcome.calls, living)

    def _restart(self) -> None:
        asked = len(self.outcome.calls)
        (only,) = self.replicas
        only.kill()
        deadline = time.monotonic() + BEGUN_WITHIN_SECONDS
        while not any(c.verb == "watch" for c in self.outcome.calls[asked:]):
            assert time.monotonic() < deadline, "the operator did not begin again"
            time.sleep(0.2)
        self._be_quiet("after a restart at rest")

    def _come_to_rest(self) -> None:
        deadline = time.monotonic() + AT_REST_WITHIN_SECONDS
        while (written := self._written_while_quiet()) and time.monotonic() < deadline:
            pass
        self._complain(written, "though all has been done for long")

    def _be_quiet(self, when: str) -> None:
        self._complain(self._written_while_quiet(), when)

    def _written_while_quiet(self) -> list[Call]:
        asked = len(self.outcome.calls)
        time.sleep(QUIET_SECONDS)
        return [c for c in self.outcome.calls[asked:] if c.is_write and c.resource != "leases"]

    def _complain(self, written: Sequence[Call], when: str) -> None:
        if written:
            self.outcome.faults.append(f"written {when}: {', '.join(map(str, written))}")

    def _state(self) -> State:
        return oracles.state_of(self.around.objects(), self.around.namespace, self.registry)


def _is_its_turn(kill: Fault, number: int) -> bool:
    beyond = number - kill.after
    return beyond == 0 or (kill.every > 0 and beyond > 0 and beyond % kill.every == 0)


def _lasting(differences: Callable[[], list[str]]) -> list[str]:
    """What still differs when there was time enough to become equal."""
    deadline = time.monotonic() + AT_REST_WITHIN_SECONDS
    while (found := differences()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def operator_kubeconfig(address: str, token: str) -> str:
    """Plain HTTP, as the proxy speaks it, under the account that the token is of."""
    content = json.loads(render.kubeconfig(address, b"", b"", b""))
    content["clusters"][0]["cluster"] = {"server": address}
    content["users"][0]["user"] = {"token": token}
    return json.dumps(content)
