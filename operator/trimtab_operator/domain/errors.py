"""Everything that can go wrong at the edges.

Adapters raise these and keep the library's error as the cause, so that reconcilers know no client.

* TrimtabError
    * ClusterError            the API server did not do it
        * ClusterUnreachable  no answer, an overloaded or broken server: tried again
        * Conflict            the object has changed since it was read: read it again
        * Gone                the object, its namespace or its kind is not there
        * NameTaken           an object of that name belongs to somebody else
        * Forbidden           RBAC, quota or admission said no
        * Refused             the object is invalid for the API server
        * NotLeader           nothing was sent: another replica leads, or may
    * PodError                a pod did not answer
    * MetricsError            Prometheus did not answer what was asked
        * MetricsUnavailable  there is none, it gives no answer, or it is overloaded
        * MetricsForbidden    our credentials are missing, unreadable or not accepted
        * MetricsRefused      it does not understand the expression
        * MetricsUnusable     its answer has another shape than was asked for
    * ArtifactError           the registry's answer
        * ArtifactUnreachable  no answer: tried again
        * ArtifactForbidden    credentials are missing or not accepted
        * ArtifactMissing      there is no such manifest, tag or blob
        * ArtifactInvalid      bytes do not match their digest, or are no document of ours
"""

from datetime import timedelta


class TrimtabError(Exception):
    """The root: an error at one of our edges."""


class ClusterError(TrimtabError):
    """The API server did not do what was asked."""


class ClusterUnreachable(ClusterError):
    """No answer, or one that says to come back later."""

    def __init__(self, message: str, after: timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after


class Conflict(ClusterError):
    """The object has changed since it was read."""


class Gone(ClusterError):
    """The object, its namespace or its kind is not there."""


class NameTaken(ClusterError):
    """An object of that name belongs to somebody else, or to a predecessor that is still going."""


class Forbidden(ClusterError):
    """RBAC, a quota or an admission rule said no."""


class Refused(ClusterError):
    """The API server finds the object invalid."""


class NotLeader(ClusterError):
    """This replica may not write; another one leads, or may."""


class PodError(TrimtabError):
    """A pod did not answer, or not in our language."""


class MetricsError(TrimtabError):
    """Prometheus did not answer what was asked."""


class MetricsUnavailable(MetricsError):
    """There is no Prometheus, or none that answers."""


class MetricsForbidden(MetricsError):
    """Prometheus does not let the operator ask, or the operator has not what it would ask with."""


class MetricsRefused(MetricsError):
    """Prometheus does not understand the expression, or cannot evaluate it."""


class MetricsUnusable(MetricsError):
    """The answer has another shape than was asked for."""


class ArtifactError(TrimtabError):
    """The registry's answer was not what was asked for."""


class ArtifactUnreachable(ArtifactError):
    """The registry did not answer."""


class ArtifactForbidden(ArtifactError):
    """The registry does not accept our credentials."""


class ArtifactMissing(ArtifactError):
    """The registry has no such manifest, tag or blob."""


class ArtifactInvalid(ArtifactError):
    """Bytes do not match their digest, or cannot be read as what they should be."""
