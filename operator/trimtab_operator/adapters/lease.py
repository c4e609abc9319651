"""Which replica leads: a Lease in the cluster, by the rules of Kubernetes' own components.

            ┌────────────── renewed every 2 s ──────────────┐
            ▼                                               │
standby ─► holds the lease, writes ── no renewal for 10 s ──┴─► stops writing, process ends
   ▲                                                                │
   └── the record has not changed for 15 s, or names nobody ◄───────┘

Times in the record were written by other machines' clocks and are for people to read. What counts
is how long ago, on our own clock, we saw the record change.
"""

import asyncio
import logging
import math
import random
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Never, Protocol

from trimtab_operator.adapters.api import AlreadyThere, Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.fence import Fence, boot_seconds
from trimtab_operator.adapters.kinds import Kind
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterError, Conflict, Gone
from trimtab_operator.domain.manifests import Manifest, get

log = logging.getLogger(__name__)
LEASE: Final = Kind("Lease", "coordination.k8s.io/v1", "leases")


class LeadershipLost(Exception):
    """Another replica leads, or may soon: this process has to end."""


@dataclass(frozen=True)
class Timing:
    """How long the lease holds, how long its holder trusts it, and how often all look at it.

    Between the second and the first lies the time in which nobody writes.
    """

    lease_seconds: float = 15
    renew_seconds: float = 10
    retry_seconds: float = 2
    # One answer that never comes must not use up all the time there is for renewing.
    request_seconds: float = 4


class Leadership(Protocol):
    """The right to lead: won, kept, given back."""

    @property
    def has_looked(self) -> bool:
        """Whether we can take part at all."""

    async def win(self) -> None:
        """Wait until we lead."""

    async def keep(self) -> None:
        """Go on leading; raises LeadershipLost when that has failed. Returns after `give_back`."""

    async def give_back(self) -> None:
        """Let another lead at once. Nothing of ours may still be writing."""


class Unopposed:
    """For a process that runs alone because somebody said so."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    @property
    def has_looked(self) -> bool:
        """There is nothing to look at."""
        return True

    async def win(self) -> None:
        """At once, for ever."""
        log.warning("leader election is off: a second operator would write against this one")
        self._fence.open_until(math.inf)

    async def keep(self) -> None:
        """Nobody takes it away."""

    async def give_back(self) -> None:
        """Nobody waits for it."""


class Election:
    """One replica's part in the election."""

    def __init__(
        self,
        api: Api,
        fence: Fence,
        telemetry: Telemetry,
        *,
        namespace: str,
        name: str,
        timing: Timing = Timing(),
        now: Callable[[], float] = boot_seconds,
    ) -> None:
        # A process that is started again is another candidate: it knows nothing of what its
        # predecessor left half done, and the predecessor might only have been frozen.
        self.identity = f"{socket.gethostname()}_{secrets.token_hex(8)}"
        self._api = api
        self._fence = fence
        self._telemetry = telemetry
        self._place = {"namespace": namespace, "name": name}
        self._timing = timing
        self._now = now
        self._clock = SystemClock()
        self._lease: Manifest | None = None
        self._is_fresh = False
        self._seen_at = -math.inf
        self._trouble = ""
        self._turn = asyncio.Lock()
        self._given_back = False

    @property
    def has_looked(self) -> bool:
        """Whether the lease could be read or written yet: without that right nobody ever leads."""
        return self._lease is not None

    async def win(self) -> None:
        """Wait until the lease is ours."""
        log.info("standing by", extra={"identity": self.identity})
        while not await self._attempt():
            if self._trouble:
                log.warning("the lease cannot be had", extra={"error": self._trouble})
            # Replicas that were started together should not go on asking together.
            share = random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
            await asyncio.sleep(self._timing.retry_seconds * share)
        self._telemetry.leads.set(1)
        log.info("leading", extra={"identity": self.identity})

    async def keep(self) -> None:
        """Renew until the lease is given back; raises LeadershipLost when that fails for too long."""
        try:
            while True:
                await asyncio.sleep(self._timing.retry_seconds)
                if self._given_back:
                    return
                await self._renew()
        finally:
            self._telemetry.leads.set(0)
            self._fence.cut()

    async def give_back(self) -> None:
        """Make the lease free, if it is ours. When that fails it lapses by itself."""
        self._fence.cut()
        async with self._turn:
            self._given_back = True
            try:
                async with asyncio.timeout(self._timing.request_seconds):
                    await self._release()
            except (ClusterError, TimeoutError) as error:
                log.warning("the lease was not given back", extra={"error": _text(error)})

    async def _renew(self) -> None:
        """Return once it is renewed; raise when it cannot be in time."""
        # A process that was frozen for longer than its right lasts must not even ask.
        if self._fence.seconds_left <= 0:
            self._lose(f"not renewed for {self._timing.renew_seconds:g} s")
        try:
            async with asyncio.timeout(self._fence.seconds_left):
                while not await self._attempt():
                    if self._given_back:
                        return
                    self._telemetry.renewal_failures.inc()
                    if self._is_fresh:
                        self._lose(f"{self._holder or 'nobody'} holds the lease")
                    await asyncio.sleep(self._timing.retry_seconds)
        except TimeoutError:
            self._lose(f"not renewed for {self._timing.renew_seconds:g} s: {self._trouble}")

    def _lose(self, why: str) -> Never:
        log.error("leadership lost, this process ends: %s", why, extra={"identity": self.identity})
        raise LeadershipLost(why)

    async def _attempt(self) -> bool:
        """Get or renew the lease; False when it is another's, or the API server does not do it."""
        async with self._turn:
            if self._given_back:
                return False
            # Before anything is sent: whoever sees our record change sees it later than this.
            began = self._now()
            try:
                async with asyncio.timeout(self._timing.request_seconds):
                    is_ours = await self._claim_or_look_again()
            except (ClusterError, TimeoutError) as error:
                # What was written, if anything, is known only after reading it again.
                self._is_fresh = False
                self._trouble = _text(error)
                return False
            self._trouble = ""
            if is_ours:
                self._fence.open_until(began + self._timing.renew_seconds)
            return is_ours

    async def _claim_or_look_again(self) -> bool:
        try:
            return await self._claim()
        except Conflict:  # somebody wrote: the sooner we know who, the better
            self._is_fresh = False
            return await self._claim()

    async def _claim(self) -> bool:
        if not (self._is_fresh and self._is_ours):
            await self._look()
        if not self._is_free:
            return False
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = get(self._lease or {}, "spec", default={})
        transitions = before.get("leaseTransitions", 0) + 1 if self._lease else 0
        spec = {
            **before,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._timing.lease_seconds),
            "renewTime": now,
        }
        if not self._is_ours:
            spec |= {"acquireTime": now, "leaseTransitions": transitions}
        await self._write(spec)
        return True

    async def _look(self) -> None:
        path = LEASE.path(self._place["namespace"], self._place["name"])
        try:
            found: Manifest | None = await self._api.request("GET", path)
        except Gone:
            found = None
        self._remember(found)

    async def _write(self, spec: Manifest) -> None:
        """Against exactly the version that was read."""
        namespace, name = self._place["namespace"], self._place["name"]
        if self._lease is None:
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": self._place}
            try:
                made = await self._api.request(
                    "POST", LEASE.path(namespace), body={**body, "spec": spec}
                )
            except AlreadyThere as error:
                raise Conflict("another replica was faster") from error
        else:
            body = {**self._lease, "spec": spec}
            made = await self._api.request("PUT", LEASE.path(namespace, name), body=body)
        self._remember(made)

    async def _release(self) -> None:
        if not self._is_fresh:
            await self._look()
        if self._lease is None or not self._is_ours:
            return
        spec = get(self._lease, "spec", default={})
        await self._write({k: v for k, v in spec.items() if k != "holderIdentity"})
        log.info("the lease was given back", extra={"identity": self.identity})

    def _remember(self, lease: Manifest | None) -> None:
        known = get(self._lease or {}, "spec", default=None)
        if lease is None or get(lease, "spec", default={}) != known:
            self._seen_at = self._now()
        self._lease = lease
        self._is_fresh = True

    @property
    def _holder(self) -> str:
        return str(get(self._lease or {}, "spec", "holderIdentity", default="") or "")

    @property
    def _is_ours(self) -> bool:
        return self._holder == self.identity

    @property
    def _is_free(self) -> bool:
        """Ours, nobody's, or not renewed for as long as its holder said it would hold."""
        if self._is_ours or not self._holder:
            return True
        holds = get(self._lease or {}, "spec", "leaseDurationSeconds", default=None)
        return self._now() - self._seen_at > float(holds or self._timing.lease_seconds)


def _text(error: Exception) -> str:
    return str(error) or "no answer in time"
