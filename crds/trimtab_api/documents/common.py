"""Parts of several documents."""

from trimtab_api.model import ApiModel


class Owner(ApiModel):
    """The object that the pod works for."""

    kind: str
    namespace: str
    name: str
    uid: str


class Output(ApiModel):
    """Where a pod pushes what it made.

    `repository` is `host[:port]/path` without scheme, tag or digest. The result document is pushed
    to the same repository under `result_tag`, so that it survives the loss of the pod.
    """

    repository: str
    result_tag: str
    plain_http: bool = False


class RunFailure(ApiModel):
    """Why a pod ended without a result; the reason is one of `trimtab_api.reasons`."""

    reason: str
    message: str


class Mounted(ApiModel):
    """An artifact of the registry that the pod finds at `path`, mounted read-only by the kubelet."""

    uri: str
    digest: str
    path: str


class Stored(ApiModel):
    """An artifact of the registry that the pod fetches itself."""

    uri: str
    digest: str
