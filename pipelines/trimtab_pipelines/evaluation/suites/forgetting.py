"""Forgetting: what the base could say and the version says worse, on the base's own held-out text.

An adapter's base is the network without it; a full version's is the one that it was trained from,
which is loaded after it.
"""

from collections.abc import Sequence
from pathlib import Path

from trimtab_api.documents import EvaluationRun
from trimtab_api.documents.evaluation import SuiteRun
from trimtab_pipelines.evaluation import scoring
from trimtab_pipelines.evaluation.comparing import shared
from trimtab_pipelines.evaluation.examples import chosen_records
from trimtab_pipelines.evaluation.intervals import ratio
from trimtab_pipelines.evaluation.measures import Measure
from trimtab_pipelines.evaluation.models import Loaded
from trimtab_pipelines.evaluation.observing import said
from trimtab_pipelines.evaluation.said import Observations, Said
from trimtab_pipelines.evaluation.suites.reading import TextCase, cases_of, fetched
from trimtab_pipelines.prompts import Record
from trimtab_pipelines.sources.artifact import DATASET_DOCUMENT


def known_text(run: EvaluationRun, suite: SuiteRun, workspace: Path) -> Sequence[Record]:
    """Prepared data, as that of the base's own evaluation, or lines of text; what ships for data without a test split."""
    if suite.data is not None:
        folder = fetched(suite, workspace, run.output)
        if (folder / DATASET_DOCUMENT).is_file():
            if found := chosen_records(folder, run.max_examples):
                return found
            suite = suite.model_copy(update={"data": None})
    return [{"text": case.text} for case in cases_of(suite, TextCase, workspace, run.output)]


def read_by(loaded: Loaded, records: Sequence[Record], max_new_tokens: int) -> Observations:
    """The losses of one network on what of the text fits into its context."""
    examples = scoring.examples_of(loaded, records, max_new_tokens)
    if not examples:
        return Observations([], Said([], []))
    return Observations(examples, said(loaded, examples, max_new_tokens, is_asked=False))


def forgotten(own: Observations, base: Observations) -> Measure | None:
    """By how many nats per token the version is worse; none where no text fits into both contexts."""
    places = shared(own.examples, base.examples, of_tokens=True)
    if not places:
        return None
    pairs = zip(own.at(places).said.losses, base.at(places).said.losses, strict=True)
    return Measure([(mine - its, float(count)) for (mine, count), (its, _) in pairs], ratio)
