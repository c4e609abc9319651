"""Work on batches of records: here, or by the workers of a Ray cluster.

What is spread looks at records one by one, or makes signatures of them; that is where the time goes.
Batches come back in their order, so that who has done the work is not to be seen in what comes out.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError

log = logging.getLogger(__name__)

Given = TypeVar("Given")
Made = TypeVar("Made")

# While a worker is busy with one batch, the next is on its way; more would only fill memory.
_AHEAD: Final = 2
# A worker that is lost is no fault of the batch; one that fills its memory each time is.
_RETRIES: Final = 5


class Workers(Protocol):
    """Who does work on batches. `work` is a function of a module, its parts can be pickled."""

    def each(self, work: Callable[[Given], Made], batches: Iterable[Given]) -> Iterator[Made]:
        """What comes of each batch, in the order of the batches."""
        ...


class Local:
    """This process."""

    def each(self, work: Callable[[Given], Made], batches: Iterable[Given]) -> Iterator[Made]:
        return map(work, batches)


class OnRay:
    """The workers of a Ray cluster, whose driver this process is; each batch takes one processor."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def each(self, work: Callable[[Given], Made], batches: Iterable[Given]) -> Iterator[Made]:
        task = self._ray.remote(work).options(num_cpus=1, max_retries=_RETRIES)
        waiting = iter(batches)
        under_way: deque[Any] = deque()
        end: RunError | StopIteration | None = None
        while end is None or under_way:
            while end is None and len(under_way) < self._most():
                try:
                    under_way.append(task.remote(next(waiting)))
                except (RunError, StopIteration) as error:
                    end = error
            if under_way:
                yield self._result(under_way.popleft())
        # What comes before the place of a fault has been looked at, and may have had one of its own.
        if isinstance(end, RunError):
            raise end

    def _most(self) -> int:
        """Workers may join and leave while the work goes on."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1))) * _AHEAD

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.OutOfMemoryError as error:
            raise RunError(
                FailureReason.OUT_OF_MEMORY,
                "a worker was ended each time because its node ran out of memory: raise workers.resources.memory",
            ) from error
        except errors.RayError as error:
            raise RunError(
                FailureReason.WORKERS_LOST,
                f"workers of Ray were lost more than {_RETRIES} times: {_first_line(error)}",
            ) from error


@contextmanager
def workers(*, is_spread: bool) -> Iterator[Workers]:
    """Whoever does the work of a preparation.

    In a RayJob the address of its cluster is in the environment; anywhere else Ray begins one here.
    """
    if not is_spread:
        yield Local()
        return
    import ray  # noqa: PLC0415 - most preparations need none

    ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    try:
        log.info("%s processors of Ray do the work", ray.cluster_resources().get("CPU", 0))
        yield OnRay(ray)
    finally:
        ray.shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
