"""Objects of S3 and of stores that speak its protocol (s3://bucket/key)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources.access import (
    Access,
    Listed,
    forbidden,
    not_found,
    unreachable,
    unsupported,
)
from trimtab_pipelines.sources.globs import fixed_prefix, is_glob, matching

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_FORBIDDEN = {
    "403",
    "401",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AllAccessDisabled",
}
_MISSING = {"404", "NoSuchBucket", "NoSuchKey", "NotFound"}


class S3Reader:
    """Objects below a bucket; what exactly is named depends on the address.

    For data a key or a glob, for a model all objects directly under a prefix.
    """

    def __init__(self, access: Access) -> None:
        bucket, _, key = access.uri.removeprefix("s3://").partition("/")
        if not bucket or not (key or access.is_model):
            raise unsupported(access, f"{access.uri} is not of the form s3://bucket/key")
        self._access = access
        self._bucket = bucket
        self._key = f"{key.rstrip('/')}/".lstrip("/") if access.is_model else key
        self._client: S3Client = _client(access)

    def listed(self) -> list[Listed]:
        try:
            found = dict(self._objects())
        except Exception as error:
            raise self._explained(error, self._access.uri) from error
        if self._access.is_model:
            keys = sorted(k for k in found if "/" not in k[len(self._key) :] and k != self._key)
        else:
            keys = [k for k in matching(found, self._key) if not k.endswith("/")]
        if not keys:
            raise not_found(self._access, f"no object matches {self._access.uri}")
        return [Listed(key, f"s3://{self._bucket}/{key}", found[key]) for key in keys]

    def fetch(self, item: Listed) -> Path:
        target = self._access.workspace / Path(item.key).name
        try:
            self._client.download_file(self._bucket, item.key, str(target))
        except OSError:
            raise  # the disk's trouble, not the store's
        except Exception as error:
            raise self._explained(error, item.name) from error
        return target

    def _objects(self) -> Iterator[tuple[str, int]]:
        if not (self._access.is_model or is_glob(self._key)):
            # One object needs no right to list the bucket.
            head = self._client.head_object(Bucket=self._bucket, Key=self._key)
            yield self._key, head["ContentLength"]
            return
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=fixed_prefix(self._key)
        )
        for page in pages:
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["Size"]

    def _explained(self, error: Exception, name: str) -> Exception:
        """Ours for what can be explained; a defect stays what it is."""
        from botocore import exceptions  # noqa: PLC0415 - heavy, and only needed for s3://

        if isinstance(error, exceptions.ClientError):
            return self._answered(str(error.response.get("Error", {}).get("Code", "")), name)
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return forbidden(
                self._access,
                f"{name} needs credentials; name a Secret with AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in its credentials",
            )
        if isinstance(error, exceptions.SSLError):
            return unreachable(
                self._access,
                f"the certificate of {self._client.meta.endpoint_url} is not trusted; put its CA "
                "under ca.crt into the Secret of its credentials",
            )
        if isinstance(error, exceptions.BotoCoreError | exceptions.HTTPClientError):
            return unreachable(
                self._access,
                f"{self._client.meta.endpoint_url} cannot be reached for {name}; check "
                f"AWS_ENDPOINT_URL and the network ({type(error).__name__})",
            )
        return error

    def _answered(self, code: str, name: str) -> RunError:
        if code in _MISSING:
            what = "bucket" if code == "NoSuchBucket" else "object"
            return not_found(self._access, f"there is no such {what}: {name}")
        if code in _FORBIDDEN:
            return forbidden(
                self._access,
                f"{name} may not be read with these credentials ({code}); check the Secret and "
                "the bucket's policy",
            )
        return unreachable(self._access, f"the store answered {code} for {name}")


def _client(access: Access) -> "S3Client":
    import boto3  # noqa: PLC0415 - heavy, and only needed for s3://
    from botocore.config import Config  # noqa: PLC0415

    # Roles of the node or the service account are found too, but not waited for.
    os.environ.setdefault("AWS_METADATA_SERVICE_TIMEOUT", "1")
    os.environ.setdefault("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
    secret = access.secret
    endpoint = secret.get("AWS_ENDPOINT_URL_S3") or secret.get("AWS_ENDPOINT_URL")
    bundle = secret.file("ca.crt")
    options: dict[str, Any] = {
        "endpoint_url": endpoint,
        "region_name": secret.get("AWS_REGION")
        or secret.get("AWS_DEFAULT_REGION")
        or os.environ.get("AWS_REGION")
        or "us-east-1",
        "config": Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "max_attempts": 3},
            # Stores of one's own rarely have a DNS name per bucket.
            s3={"addressing_style": "path"} if endpoint else {},
        ),
    }
    if bundle:
        options["verify"] = str(bundle)
    session = boto3.session.Session(
        aws_access_key_id=secret.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=secret.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=secret.get("AWS_SESSION_TOKEN"),
    )
    client: S3Client = session.client("s3", **options)
    return client
