"""Deletion of an artifact that nobody needs any more."""

from trimtab_api.documents.common import Owner, RunFailure, Stored
from trimtab_api.model import ApiModel


class DeletionRun(ApiModel):
    """The task: this artifact, and what is attached to it."""

    owner: Owner
    artifact: Stored
    plain_http: bool = False


class DeletionResult(ApiModel):
    """How many manifests went; what was gone already counts, too."""

    manifests: int = 0
    failure: RunFailure | None = None
