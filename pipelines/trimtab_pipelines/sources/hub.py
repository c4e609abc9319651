"""Files of a Hugging Face hub (hf://), always at a commit: a branch would move under a running job."""

import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.files import sha256
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources.access import (
    Access,
    Listed,
    forbidden,
    not_found,
    unreachable,
    unsupported,
)
from trimtab_pipelines.sources.globs import is_glob, matching

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"[A-Za-z0-9][\w.-]*")


class HubReader:
    """Files of one repository at one commit."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._kind, self._repository, self._path = _parsed(access)
        if not _COMMIT.fullmatch(access.revision or ""):
            said = f'"{access.revision}" is not one' if access.revision else "none is given"
            raise RunError(
                FailureReason.REVISION_MISSING,
                f"{access.field}: {access.uri} needs a commit of 40 hex digits in revision, and "
                f"{said}; branches and tags can move",
            )
        self._api = _api(access)

    def listed(self) -> list[Listed]:
        try:
            files = {item.key: item for item in self._files()}
        except Exception as error:
            raise self._explained(error, self._access.uri) from error
        if self._access.is_model:
            keys = sorted(key for key in files if "/" not in key)
        else:
            keys = matching(files, self._path)
        if not keys:
            raise not_found(
                self._access, f"{self._repository} has no file that matches {self._path}"
            )
        return [files[key] for key in keys]

    def fetch(self, item: Listed) -> Path:
        try:
            local = self._api.hf_hub_download(
                self._repository,
                item.key,
                repo_type=self._kind,
                revision=self._access.revision,
                local_dir=self._access.workspace,
            )
        except Exception as error:
            raise self._explained(error, item.name) from error
        path = Path(local)
        if item.sha256 and item.sha256 != sha256(path):
            raise RunError(
                FailureReason.DIGEST_MISMATCH,
                f"{self._access.field}: {item.name} is not what the hub's own digest says; "
                "something between here and the hub changes files",
            )
        return path

    def _files(self) -> list[Listed]:
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415 - heavy

        entries = self._api.list_repo_tree(
            self._repository,
            recursive=not self._access.is_model,
            revision=self._access.revision,
            repo_type=self._kind,
        )
        return [
            Listed(
                entry.path,
                f"hf://{self._repository}/{entry.path}",
                entry.size,
                entry.lfs.sha256 if entry.lfs else None,
            )
            for entry in entries
            if isinstance(entry, RepoFile)
        ]

    def _explained(self, error: Exception, name: str) -> Exception:
        """Ours for what can be explained; a defect stays what it is."""
        import httpx2  # noqa: PLC0415 - heavy
        from huggingface_hub import errors  # noqa: PLC0415

        endpoint = self._api.endpoint
        if isinstance(error, errors.GatedRepoError):
            return forbidden(
                self._access,
                f"{self._repository} is gated; accept its terms and put a token under HF_TOKEN "
                "into the Secret of its credentials",
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return not_found(
                self._access, f"{self._repository} has no commit {self._access.revision}"
            )
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in {401, 403}:
            return forbidden(
                self._access,
                f"{name} does not exist or may not be read ({status}); put a token under "
                "HF_TOKEN into the Secret of its credentials",
            )
        if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
            return not_found(self._access, f"{endpoint} has no {self._kind} {name}")
        if isinstance(
            error, errors.HfHubHTTPError | httpx2.HTTPError | errors.LocalEntryNotFoundError
        ):
            return unreachable(
                self._access,
                f"{endpoint} cannot be reached for {name}; check HF_ENDPOINT, HTTPS_PROXY and "
                f"the network ({_cause(error)})",
            )
        return error


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _parsed(access: Access) -> tuple[str, str, str]:
    """Kind, repository and path in it."""
    parts = access.uri.removeprefix("hf://").strip("/").split("/")
    kind = "model" if access.is_model else "dataset"
    if parts[0] in {"datasets", "models"}:
        kind = parts.pop(0).removesuffix("s")
    form = "hf://org/name" if access.is_model else "hf://datasets/org/name/path"
    is_right_length = len(parts) == 2 if access.is_model else len(parts) > 2
    names = parts[:2]
    if not is_right_length or not all(_PART.fullmatch(p) for p in names) or is_glob("".join(names)):
        raise unsupported(access, f"{access.uri} is not of the form {form}")
    return kind, "/".join(names), "/".join(parts[2:])


def _api(access: Access) -> "HfApi":
    # Read when the library is imported. Its own transfer protocol knows no CA bundle and asks
    # hosts that a mirror of the hub does not have.
    os.environ["HF_HUB_OFFLINE"] = "0"
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import httpx2  # noqa: PLC0415 - the client of huggingface_hub, only needed for hf://
    from huggingface_hub import HfApi, set_client_factory  # noqa: PLC0415

    context = ssl.create_default_context()
    if bundle := access.secret.file("ca.crt"):
        context.load_verify_locations(cafile=str(bundle))

    def client() -> httpx2.Client:
        return httpx2.Client(
            verify=context, follow_redirects=True, timeout=httpx2.Timeout(60, connect=10)
        )

    set_client_factory(client)
    return HfApi(
        endpoint=access.secret.get("HF_ENDPOINT") or os.environ.get("HF_ENDPOINT"),
        # False: a token that lies around on the machine is not asked.
        token=access.secret.get("HF_TOKEN") or os.environ.get("HF_TOKEN") or False,
    )
