"""Names, all derived from inputs: a write that is repeated meets its own result."""

import hashlib
import re
from functools import lru_cache
from typing import Final

from trimtab_api import names

ANNOTATION_OWNER: Final = f"{names.GROUP}/owner"
ANNOTATION_APPLIED: Final = f"{names.GROUP}/applied"
NAME_LENGTH: Final = 63  # Jobs put their name into a label; Services are DNS labels
_HASH_LENGTH: Final = 8
_DIGEST_LABEL_LENGTH: Final = 12


def short_hash(*parts: str, length: int = _HASH_LENGTH) -> str:
    """A few hex digits that stand for the parts; the separator cannot occur in names."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:length]


def service_host(name: str) -> str:
    """The name of an InferenceService's Service: its own, as a host name."""
    return fitted(name.replace(".", "-"))


def fitted(name: str, length: int = NAME_LENGTH) -> str:
    """The name itself where it fits, else its beginning and a hash of the whole."""
    if len(name) <= length:
        return name
    return f"{name[: length - _HASH_LENGTH - 1].rstrip('-.')}-{short_hash(name)}"


@lru_cache(maxsize=1024)  # one look at an object asks for each of its few names several times
def child_name(owner: str, component: str, *inputs: str) -> str:
    """Name of a child whose content follows from `inputs`; without inputs it is a stable name.

    Children that must not be confused with those of a deleted namesake take the owner's uid as
    an input. Dots are legal in our objects' names, but not in those of Services and pods' hosts.
    """
    tail = f"-{component}" + (f"-{short_hash(*inputs)}" if inputs else "")
    return fitted(owner.replace(".", "-"), NAME_LENGTH - len(tail)) + tail


def label_value(name: str) -> str:
    """A name as a label value: shortened by a hash where it is too long."""
    return fitted(name)


def digest_label(digest: str) -> str:
    """A digest as a label value: enough of it to search by."""
    return digest.removeprefix("sha256:")[:_DIGEST_LABEL_LENGTH]


def owner_annotation(kind: str, name: str) -> str:
    """Who a child works for; on pods too, whose owner references stop at their Job."""
    return f"{kind}/{name}"


def version_name(model: str, digest: str) -> str:
    """Name of the ModelVersion that holds this artifact."""
    return f"{model}-{digest.removeprefix('sha256:')[:8]}"


def result_tag(uid: str, stage: str, attempt: int) -> str:
    """Tag under which a pod leaves its result document."""
    return f"run-{uid}-{stage}-{attempt}"


def digest_of(uri: str) -> str:
    """The digest in oci://registry/name@sha256:…."""
    return uri.rpartition("@")[2]


def version_repository(prefix: str, namespace: str, model: str) -> str:
    """Where the versions of a model and the reports about them are."""
    return f"{prefix}/{namespace}/{model}"


def data_repository(prefix: str, namespace: str) -> str:
    """Where prepared data is."""
    return f"{prefix}/{namespace}/data"


def base_repository(prefix: str, uri: str) -> str:
    """Where a base model from outside is mirrored to: hf://Org/Name -> <prefix>/base/org/name."""
    path = uri.partition("://")[2].partition("@")[0].lower()
    parts = [re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in path.split("/")]
    return "/".join([prefix, "base", *(part for part in parts if part)])


def image_reference(uri: str) -> str:
    """An artifact's address as a kubelet wants it: without the scheme."""
    return uri.removeprefix("oci://")
