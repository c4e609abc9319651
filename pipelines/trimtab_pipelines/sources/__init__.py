"""Readers: one per scheme, all with the same two verbs (`access.Reader`).

A reader's libraries are imported when its scheme is used: nobody waits for boto3 to read a claim.
"""

from trimtab_pipelines.sources.access import Access, Listed, Reader, Secret, unsupported

SCHEMES = ("oci", "configmap", "pvc", "s3", "https", "hf", "capture")
MODEL_SCHEMES = ("hf", "oci", "s3", "pvc")

__all__ = ["MODEL_SCHEMES", "SCHEMES", "Access", "Listed", "Reader", "Secret", "open_reader"]


def open_reader(access: Access) -> Reader:
    """The reader for an address."""
    scheme, separator, _ = access.uri.partition("://")
    known = MODEL_SCHEMES if access.is_model else SCHEMES
    if not separator or scheme not in known:
        forms = ", ".join(f"{name}://" for name in known)
        raise unsupported(access, f"{access.uri} is of no scheme that is known here; use {forms}")
    # ruff: noqa: PLC0415 - see above
    if scheme == "s3":
        from trimtab_pipelines.sources.s3 import S3Reader

        return S3Reader(access)
    if scheme == "https":
        from trimtab_pipelines.sources.web import WebReader

        return WebReader(access)
    if scheme == "hf":
        from trimtab_pipelines.sources.hub import HubReader

        return HubReader(access)
    if scheme == "oci":
        from trimtab_pipelines.sources.artifact import ArtifactReader

        return ArtifactReader(access)
    if scheme == "capture":
        from trimtab_pipelines.sources.captured import CaptureReader

        return CaptureReader(access)
    from trimtab_pipelines.sources.mounted import MountedReader

    return MountedReader(access)
