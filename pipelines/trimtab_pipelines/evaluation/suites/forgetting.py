"""Forgetting: what the base could say and the version says worse, on the base's own held-out text."""

from collections.abc import Sequence
from pathlib import Path

from trimtab_api.documents import EvaluationRun
from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation import scoring
from trimtab_pipelines.evaluation.examples import chosen_records
from trimtab_pipelines.evaluation.intervals import ratio
from trimtab_pipelines.evaluation.measures import Measure
from trimtab_pipelines.evaluation.models import Loaded
from trimtab_pipelines.evaluation.suites.reading import TextCase, cases_of, fetched
from trimtab_pipelines.prompts import Record
from trimtab_pipelines.sources.artifact import DATASET_DOCUMENT


def forgetting(
    run: EvaluationRun, suite: SuiteRun, loaded: Loaded, workspace: Path
) -> dict[Metric, Measure]:
    """By how many nats per token the version is worse than its base; a full version has none beside it."""
    if not loaded.is_adapter:
        return {}
    records = _records(run, suite, workspace)
    examples = scoring.examples_of(loaded, records, run.max_new_tokens)
    if not examples:
        return {}
    own = scoring.losses(loaded, examples)
    with loaded.as_base():
        base = scoring.losses(loaded, examples)
    rows = [(mine - its, float(count)) for (mine, count), (its, _) in zip(own, base, strict=True)]
    return {Metric.FORGETTING: Measure(rows, ratio)}


def _records(run: EvaluationRun, suite: SuiteRun, workspace: Path) -> Sequence[Record]:
    """Prepared data, as that of the base's own evaluation, or lines of text."""
    if suite.data is not None:
        folder = fetched(suite, workspace, run.output)
        if (folder / DATASET_DOCUMENT).is_file():
            return chosen_records(folder, run.max_examples)
    return [{"text": case.text} for case in cases_of(suite, TextCase, workspace, run.output)]
