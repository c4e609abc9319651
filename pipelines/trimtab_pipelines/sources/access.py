"""What a reader is given: an address, the mounted Secret, and a place to work in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trimtab_api.documents import Output
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import Columns, DatasetTask
from trimtab_pipelines.runtime import RunError


@dataclass(frozen=True)
class Secret:
    """A mounted Secret: one file per key; a folder that is not there is an empty Secret."""

    folder: Path

    def get(self, key: str) -> str | None:
        """The value without the newline that editors add, or None."""
        path = self.folder / key
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def file(self, key: str) -> Path | None:
        """The file of a key, for libraries that read files."""
        path = self.folder / key
        return path if path.is_file() else None


@dataclass(frozen=True)
class Access:
    """One address of a run document with all that is needed to read it.

    `field` is how the user knows it, for messages. `output` is where results go: a registry that we
    push to is also read with the operator's settings.
    """

    uri: str
    field: str
    secret: Secret
    output: Output
    workspace: Path
    revision: str | None = None
    is_model: bool = False
    # What the records are for, where they are made of something else and not just read.
    task: DatasetTask = DatasetTask.INSTRUCTION
    columns: Columns | None = None


@dataclass(frozen=True)
class Listed:
    """A file that a reader can fetch. `name` is for people and holds no secret."""

    key: str
    name: str
    size: int | None = None
    sha256: str | None = None


class Reader(Protocol):
    """Files behind an address."""

    def listed(self) -> list[Listed]:
        """What the address names, sorted by key; never empty."""
        ...

    def fetch(self, item: Listed) -> Path:
        """The file on this machine: where it is mounted, or a copy in the workspace."""
        ...


def not_found(access: Access, detail: str) -> RunError:
    return RunError(FailureReason.SOURCE_NOT_FOUND, f"{access.field}: {detail}")


def forbidden(access: Access, detail: str) -> RunError:
    return RunError(FailureReason.SOURCE_FORBIDDEN, f"{access.field}: {detail}")


def unreachable(access: Access, detail: str) -> RunError:
    return RunError(FailureReason.SOURCE_UNREACHABLE, f"{access.field}: {detail}")


def unsupported(access: Access, detail: str) -> RunError:
    return RunError(FailureReason.URI_UNSUPPORTED, f"{access.field}: {detail}")
