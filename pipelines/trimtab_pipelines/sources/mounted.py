"""Files that the kubelet has mounted: claims (pvc://) and ConfigMaps (configmap://)."""

from pathlib import Path

from trimtab_pipelines import paths
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

# How many names of what is there help a reader of a message.
_HINTS = 5


class MountedReader:
    """Files below a mount point."""

    def __init__(self, access: Access) -> None:
        scheme, _, rest = access.uri.partition("://")
        owner, _, path = rest.partition("/")
        self._access = access
        self._is_claim = scheme == "pvc"
        self._owner = owner
        self._path = path.strip("/")
        if not owner or ".." in self._path.split("/") or (not self._path and not access.is_model):
            form = "pvc://claim/path" if self._is_claim else "configmap://name/key"
            raise unsupported(access, f"{access.uri} is not of the form {form}")
        self._root = paths.inside("/claims" if self._is_claim else "/configmaps") / owner

    def listed(self) -> list[Listed]:
        if not self._root.is_dir():
            kind = "claim" if self._is_claim else "ConfigMap"
            raise not_found(
                self._access,
                f'the {kind} "{self._owner}" is not mounted; create it in this namespace',
            )
        try:
            found = self._models() if self._access.is_model else self._matching()
        except PermissionError as error:
            raise self._unreadable(error) from error
        if not found:
            raise not_found(self._access, self._what_is_there())
        return [
            Listed(key, f"{self._access.uri.partition('://')[0]}://{self._owner}/{key}")
            for key in found
        ]

    def fetch(self, item: Listed) -> Path:
        path = self._root / item.key
        try:
            with path.open("rb"):
                return path
        except PermissionError as error:
            raise self._unreadable(error) from error
        except OSError as error:
            raise unreachable(self._access, f"{item.name} cannot be read: {error}") from error

    def _matching(self) -> list[str]:
        if not is_glob(self._path):
            place = self._root / self._path
            if place.is_dir():
                raise not_found(
                    self._access,
                    f"{self._access.uri} is a folder; name its files, for example "
                    f"{self._access.uri.rstrip('/')}/*.jsonl",
                )
            return [self._path] if place.is_file() else []
        start = self._root / fixed_prefix(self._path)
        names = (p.relative_to(self._root).as_posix() for p in start.rglob("*") if p.is_file())
        # A ConfigMap volume holds each key a second time in a hidden folder.
        return matching((name for name in names if not _is_hidden(name)), self._path)

    def _models(self) -> list[str]:
        folder = self._root / self._path
        if not folder.is_dir():
            return []
        return sorted(p.relative_to(self._root).as_posix() for p in folder.iterdir() if p.is_file())

    def _what_is_there(self) -> str:
        # A ConfigMap volume has hidden links beside its keys.
        found = sorted(p.name for p in self._root.iterdir() if not p.name.startswith("."))
        some = ", ".join(found[:_HINTS]) + (", …" if len(found) > _HINTS else "")
        kind = "claim" if self._is_claim else "ConfigMap"
        return f'there is no {self._path or "file"} in the {kind} "{self._owner}"; it has: {some or "nothing"}'

    def _unreadable(self, error: OSError) -> RunError:
        name = Path(str(error.filename)).name
        return forbidden(
            self._access,
            f'"{name}" in "{self._owner}" may not be read by this pod; make it readable for group 0',
        )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
