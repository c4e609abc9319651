"""Loading one network at a time and listening to it. What it cannot say in numbers is a failure."""

import gc
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from trimtab_api.documents import EvaluationRun
from trimtab_api.documents.evaluation import ContenderRun
from trimtab_api.reasons import FailureReason
from trimtab_pipelines.evaluation import models, scoring
from trimtab_pipelines.evaluation.fetching import Candidate, fetch_candidate
from trimtab_pipelines.evaluation.said import Example, Observations, Said
from trimtab_pipelines.prompts import Record
from trimtab_pipelines.runtime import RunError

log = logging.getLogger(__name__)


@contextmanager
def loaded_network(candidate: Candidate, gpus: int) -> Iterator[models.Loaded]:
    """A network for as long as this lasts: the next one needs the memory."""
    loaded = models.load(candidate.model, candidate.adapter, gpus=gpus)
    try:
        yield loaded
    finally:
        loaded.network.to("meta")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def loaded_contender(
    run: EvaluationRun, contender: ContenderRun, workspace: Path
) -> Iterator[models.Loaded]:
    """Another version, verified as strictly as the one that is evaluated."""
    its = run.model_copy(
        update={
            "kind": contender.kind,
            "artifact": contender.artifact,
            "rank": contender.rank,
            "base": contender.base,
            "mounted": contender.mounted,
        }
    )
    folder = workspace / contender.name
    folder.mkdir(exist_ok=True)
    with loaded_network(fetch_candidate(its, folder), run.gpus) as loaded:
        yield loaded


def observed(
    loaded: models.Loaded, records: Sequence[Record], max_new_tokens: int, *, is_asked: bool
) -> Observations:
    """Losses on the records that fit, and answers to them where it is asked for any."""
    examples = scoring.examples_of(loaded, records, max_new_tokens)
    if not examples:
        raise RunError(
            FailureReason.RECORD_TOO_LONG,
            f"none of the {len(records)} test records fits into the model's context of "
            f"{loaded.context_length} tokens; shorten them",
        )
    return Observations(examples, said(loaded, examples, max_new_tokens, is_asked=is_asked))


def said(
    loaded: models.Loaded, examples: Sequence[Example], max_new_tokens: int, *, is_asked: bool
) -> Said:
    """What the network says about these examples."""
    started = time.monotonic()
    losses = scoring.losses(loaded, examples)
    broken = sum(not math.isfinite(total) for total, _ in losses)
    if broken:
        raise RunError(
            FailureReason.LOSS_NOT_FINITE,
            f"the model gives no numbers on {broken} of {len(examples)} examples; its weights hold NaN, or "
            "overflow in their number format",
        )
    asked = [example for example in examples if example.prompt] if is_asked else []
    answers = scoring.answers(loaded, asked, max_new_tokens)
    log.info("%d examples in %.1f s", len(examples), time.monotonic() - started)
    return Said(losses, answers)
