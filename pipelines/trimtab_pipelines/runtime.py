"""The frame of every stage: one document in, one document out, an exit code that says what to do.

A stage does its work and either returns its result or raises. What that means for the pod
(termination message, result in the registry, exit code) is decided here and nowhere else.
"""

import asyncio
import errno
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from trimtab_api import names
from trimtab_api.documents import Output, RunFailure
from trimtab_api.model import ApiModel
from trimtab_api.reasons import FailureReason, is_user_error
from trimtab_oci import (
    DigestMismatch,
    NotFound,
    Reference,
    RegistryError,
    RegistryForbidden,
    RegistryUnreachable,
    UnsafeArtifact,
)
from trimtab_pipelines import paths
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.termination import termination_message

log = logging.getLogger(__name__)

Run = TypeVar("Run", bound=ApiModel)
Result = TypeVar("Result", bound=ApiModel)

RESULT_TYPE = "application/vnd.trimtab.result.v1+json"


class RunError(Exception):
    """The stage cannot do its task; the reason tells whether trying again can help.

    `found` are fields of the stage's result that are known all the same.
    """

    def __init__(
        self, reason: FailureReason, message: str, found: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.found = dict(found or {})

    def __reduce__(self) -> tuple[type["RunError"], tuple[Any, ...]]:
        """It may come from another process."""
        return type(self), (self.reason, self.message, self.found)


class Interrupted(SystemExit):
    """SIGTERM came; whatever can be gone on with is on the volume.

    A SystemExit, because asyncio lets nothing else pass from a signal handler to the top, and
    because no handler of mere errors may swallow it.
    """

    def __init__(self) -> None:
        super().__init__(names.EXIT_INTERRUPTED)


@dataclass
class Stop:
    """Whether SIGTERM came.

    A stage that can stop in an orderly way is `graceful` and looks at `requested` by itself; any
    other is interrupted where it stands.
    """

    graceful: bool = False
    requested: bool = False

    def install(self) -> None:
        # As process 1 of a container we would not even die of SIGTERM without a handler.
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self.graceful:
            raise Interrupted

    def at_once(self) -> None:
        """From here on there is nothing to save: stop where we stand."""
        self.graceful = False
        if self.requested:
            raise Interrupted


@dataclass(frozen=True)
class Stage(Generic[Run, Result]):
    """What one command does.

    `outputs` lists where the result document goes; an empty list keeps it to the termination
    message. `failed` makes the result document of a failure. Where `is_read_elsewhere`, nobody reads
    the termination message, and failures that may pass are kept as well.
    """

    run: type[Run]
    work: Callable[[Run, Stop], Result]
    failed: Callable[[RunFailure], Result]
    outputs: Callable[[Run], Sequence[Output]] = field(default=lambda _run: ())
    is_read_elsewhere: Callable[[Run], bool] = field(default=lambda _run: False)
    graceful: bool = False


def execute(stage: Stage[Run, Result]) -> int:
    """Run a stage from document to exit code."""
    stop = Stop(graceful=stage.graceful)
    stop.install()
    run: Run | None = None
    try:
        run = read_document(stage.run)
        result = stage.work(run, stop)
        push_result(stage.outputs(run), result)
    except Interrupted:
        log.info("stopped on request")
        return names.EXIT_INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the edge: whatever happened becomes a document
        return _fail(stage, run, error)
    write_termination_message(result)
    return 0


def _fail(stage: Stage[Run, Result], run: Run | None, error: BaseException) -> int:
    failure = failure_of(error)
    log.error("%s: %s", failure.reason, failure.message, exc_info=_unless_expected(error))
    result = stage.failed(failure)
    if isinstance(error, RunError) and error.found:
        result = result.model_copy(update=error.found)
    write_termination_message(result)
    is_final = is_user_error(failure.reason)
    if run is not None and (is_final or stage.is_read_elsewhere(run)):
        try:
            push_result(stage.outputs(run), result, patience_seconds=5)
        except RegistryError as unreachable:
            # The termination message says the same; only the copy for a lost pod is missing.
            log.warning("the result could not be pushed: %s", unreachable)
    return names.EXIT_USER_ERROR if is_final else names.EXIT_RETRYABLE


def _unless_expected(error: BaseException) -> BaseException | None:
    return None if isinstance(error, RunError | RegistryError) else error


def read_document(kind: type[Run]) -> Run:
    """The document that the operator mounted."""
    try:
        return kind.model_validate_json(paths.run_document().read_bytes())
    except (OSError, ValidationError) as error:
        message = f"the run document cannot be read: {error}"
        raise RunError(FailureReason.INTERNAL_ERROR, message) from error


def push_result(outputs: Sequence[Output], result: ApiModel, patience_seconds: float = 120) -> None:
    """Keep the result where it survives the pod."""
    document = result.model_dump_json(by_alias=True, exclude_none=True).encode()
    for output in outputs:
        push = partial(_push_one, output, document)
        asyncio.run(again_while_unreachable(push, patience_seconds))


async def _push_one(output: Output, document: bytes) -> Reference:
    async with open_registry(plain_http=output.plain_http) as registry:
        return await registry.push_document(
            output.repository, document, artifact_type=RESULT_TYPE, tag=output.result_tag
        )


def write_termination_message(result: ApiModel) -> None:
    path = paths.inside(names.TERMINATION_MESSAGE_PATH)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(termination_message(result))


_REASONS: tuple[tuple[type[BaseException], FailureReason], ...] = (
    (RegistryForbidden, FailureReason.REGISTRY_FORBIDDEN),
    (NotFound, FailureReason.SOURCE_NOT_FOUND),
    (DigestMismatch, FailureReason.DIGEST_MISMATCH),
    (UnsafeArtifact, FailureReason.UNSAFE_FORMAT),
    (RegistryUnreachable, FailureReason.REGISTRY_UNREACHABLE),
    (RegistryError, FailureReason.REGISTRY_UNREACHABLE),
    (MemoryError, FailureReason.OUT_OF_MEMORY),
)


def failure_of(error: BaseException) -> RunFailure:
    """What to tell about an exception; anything that we did not foresee is our own defect."""
    if isinstance(error, RunError):
        return RunFailure(reason=error.reason, message=error.message)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunFailure(
            reason=FailureReason.DISK_FULL,
            message="The volume has no space left; give the job a larger storage.size.",
        )
    # torch is not imported for this: its exception is known by its name.
    if type(error).__name__ == "OutOfMemoryError" or _is_cpu_allocation_failure(error):
        return RunFailure(reason=FailureReason.OUT_OF_MEMORY, message=_OUT_OF_MEMORY)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return RunFailure(reason=reason, message=str(error) or _OUT_OF_MEMORY)
    return RunFailure(
        reason=FailureReason.INTERNAL_ERROR, message=f"{type(error).__name__}: {error}"
    )


_OUT_OF_MEMORY = "Memory ran out; use a smaller batchSize or maxLength, or more memory."


def _is_cpu_allocation_failure(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
