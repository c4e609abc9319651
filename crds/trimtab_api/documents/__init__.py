"""Documents between the operator and the pods that it starts.

The operator mounts one document per pod (a ConfigMap, `names.RUN_DOCUMENT`) and gets one back:
as the container's termination message (at most 4 KiB) and as the artifact under `output.resultTag`
in the registry. Neither side reads the other's flags or logs.
"""

from trimtab_api.documents.common import Output, Owner, RunFailure
from trimtab_api.documents.deletion import DeletionResult, DeletionRun
from trimtab_api.documents.evaluation import EvaluationReport, EvaluationResult, EvaluationRun
from trimtab_api.documents.preparation import PrepareResult, PrepareRun
from trimtab_api.documents.signing import SigningMethod, SigningResult, SigningRun
from trimtab_api.documents.training import ProgressReport, TrainingResult, TrainingRun

__all__ = [
    "DeletionResult",
    "DeletionRun",
    "EvaluationReport",
    "EvaluationResult",
    "EvaluationRun",
    "Output",
    "Owner",
    "PrepareResult",
    "PrepareRun",
    "ProgressReport",
    "RunFailure",
    "SigningMethod",
    "SigningResult",
    "SigningRun",
    "TrainingResult",
    "TrainingRun",
]
