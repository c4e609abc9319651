"""What reconcilers need from the world, in their own words.

`adapters` implement these protocols, `tests/fakes.py` imitates them; no reconciler knows a client
library. Reads of the cluster are reads of a local store that watches keep fresh, and that holds
one's own writes as soon as they were answered. Writes may raise `domain.errors.ClusterError`; a
reconciler handles those it can say something about and lets the others pass: the queue tries again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from trimtab_api.documents.training import ProgressReport
from trimtab_api.model import ApiModel
from trimtab_api.routing import AgentReport, ProbeAnswer
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.policy import NamespacePolicy
from trimtab_operator.domain.references import Target
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.settings import Settings

Key = tuple[str, str]  # namespace, name
R = TypeVar("R", bound=AnyResource)


class Cluster(Protocol):
    """The API server, seen through a local store."""

    def get(self, kind: type[R], key: Key) -> R | None:
        """One of our objects, or None; `kind` is the class of its kind."""

    def referrers(self, kind: type[R], target: Target) -> Sequence[R]:
        """Objects of a kind that refer to the target (see `domain.references`)."""

    def policy(self, namespace: str) -> NamespacePolicy:
        """What a namespace asks for."""

    def children(self, owner: AnyResource, kind: str) -> Sequence[Manifest]:
        """Children of this very owner (by uid; pods by the owner's annotation), for example "Job"."""

    async def apply(self, manifest: Manifest, owner: AnyResource) -> Manifest:
        """Server-side apply with our field manager; skipped where nothing would change.

        Sets the owner reference. Raises NameTaken rather than take over somebody else's object.
        """

    async def create(self, manifest: Manifest, owner: AnyResource | None) -> bool:
        """Create what is never changed afterwards; False when it is there already.

        Without an owner the object outlives everything (a ModelVersion). Raises NameTaken when the
        one that is there belongs to another owner.
        """

    async def patch(self, child: Manifest, changes: Manifest) -> Manifest:
        """Merge a few fields into exactly this version of a child."""

    async def delete(self, child: Manifest) -> None:
        """Delete exactly this child (uid and resourceVersion); pods and children go with it."""

    async def delete_resource(self, resource: AnyResource) -> None:
        """Delete one of our own objects, exactly as it was read."""

    async def write_status(self, resource: R, status: ApiModel) -> R:
        """Write status where it differs, against exactly the version that was read.

        Returns the object as it is now. Raises Conflict when somebody was faster.
        """

    async def write_finalizers(self, resource: R, finalizers: Sequence[str]) -> R:
        """Set the finalizers where they differ, against exactly the version that was read."""

    async def emit(self, event: Event) -> None:
        """Say it, unless it has been said; a failure to say it is never an error."""


class Registry(Protocol):
    """The OCI registry as the operator sees it. Errors are ArtifactErrors."""

    async def manifest(self, uri: str) -> Manifest:
        """The manifest behind oci://…@sha256:…, its bytes verified against the digest.

        Annotations `dev.trimtab.kind`, `dev.trimtab.base` and `dev.trimtab.rank` are in it, and
        `subject` where there is one.
        """

    async def document(self, uri: str) -> bytes:
        """The bytes of a one-blob artifact, by digest (oci://…@sha256:…) or by tag (oci://…:tag)."""


class Pods(Protocol):
    """Our own programs in pods, asked over HTTP. Errors are PodErrors, and come soon."""

    async def progress(self, address: str) -> ProgressReport:
        """GET /progress of a trainer; `address` is a pod's IP."""

    async def probe(self, address: str, model: str) -> ProbeAnswer:
        """GET /probe/{model} on a gateway's admin port; `address` is a pod's IP."""


class Agents(Protocol):
    """The agents beside engines, followed in the background by long polls."""

    def follow(
        self, kind: str, key: Key, addresses: Collection[str]
    ) -> Mapping[str, AgentReport | None]:
        """What each agent (host:port) said last; None until it has answered.

        From now on exactly these are followed for this key, and each change of a report puts the
        key into its kind's queue. An agent that stops answering turns to None. No addresses: none.
        """

    async def first_words(self, addresses: Collection[str]) -> None:
        """Wait, but not for long, until each of those that are followed has answered or failed.

        An operator that has just begun has heard of nobody, and that is no news about them.
        """


class Metrics(Protocol):
    """The Prometheus that scrapes gateways. Errors are MetricsErrors, and come soon."""

    async def samples(self, selector: str, start: datetime, end: datetime) -> Sequence[RawSeries]:
        """Every series of a selector with its raw samples in (start, end], each at its scrape's time."""

    async def scalar(self, query: str, at: datetime) -> float | None:
        """The one number that an expression gives; None where it gives nothing."""


class Tally(Protocol):
    """What the operator counts about what it has decided."""

    def promoted(self, namespace: str, service: str, model: str) -> None:
        """A candidate has got all requests."""

    def rolled_back(self, namespace: str, service: str, model: str, seconds: float) -> None:
        """A version has lost its requests, so long after that was decided."""

    def traffic(self, namespace: str, service: str, moved: Mapping[str, bool]) -> None:
        """Whether the traffic of each model has moved, where that is known; in place of what was told before."""


class Clock(Protocol):
    """The time of day, in UTC."""

    def now(self) -> datetime:
        """Now."""


@dataclass(frozen=True)
class World:
    """Everything that a reconciler may touch: `async def reconcile(key, world) -> Outcome`."""

    cluster: Cluster
    registry: Registry
    pods: Pods
    agents: Agents
    metrics: Metrics
    tally: Tally
    clock: Clock
    settings: Settings
    # When Prometheus was last asked about the keys of a service; who begins anew asks at once.
    keys_asked: dict[Key, datetime] = field(default_factory=dict)
