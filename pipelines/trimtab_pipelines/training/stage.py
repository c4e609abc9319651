"""The stage `train`: train unless that is done, then publish.

torch is imported only when there is something to train.
"""

import os

from trimtab_api.documents import RunFailure, TrainingResult, TrainingRun
from trimtab_pipelines import paths
from trimtab_pipelines.runtime import Stage, Stop
from trimtab_pipelines.training import output
from trimtab_pipelines.training.monitor import Monitor, served
from trimtab_pipelines.training.publish import publish


def work(run: TrainingRun, stop: Stop) -> TrainingResult:
    monitor = Monitor()
    with served(monitor):
        summary = output.finished(paths.output(), run)
        if summary is None:
            # What downloads nothing must not even try: the first look at a hub costs seconds.
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
            # Threads that wait for each other must not spin long: on a node that has other work,
            # the one that is waited for needs the very processor that is spun on.
            os.environ.setdefault("GOMP_SPINCOUNT", "2000")
            from trimtab_pipelines.training.recipe import train  # noqa: PLC0415 - imports torch

            summary = train(run, stop, monitor)
        stop.at_once()  # everything is on the volume
        return publish(run, summary, paths.output())


def failed(failure: RunFailure) -> TrainingResult:
    return TrainingResult(failure=failure)


STAGE = Stage(
    run=TrainingRun,
    work=work,
    failed=failed,
    outputs=lambda run: (run.output,),
    graceful=True,
)
