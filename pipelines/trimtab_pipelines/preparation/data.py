"""Sources in, one artifact of prepared data and a report about it out.

First all rows become records on the disk, cleaned one by one. Then they are compared with one
another. Last, what is kept is written split by split. Nothing is pushed before all of it has
succeeded.
"""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from trimtab_api.documents.preparation import DataOrigin, PreparedArtifact
from trimtab_api.v1alpha1.cleaning import DEFAULT_THRESHOLD
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_api.v1alpha1.dataset import LeakageAction
from trimtab_pipelines.labelled import TOOLS
from trimtab_pipelines.preparation import checks, publishing
from trimtab_pipelines.preparation.alike import NONE, Alike, find_alike
from trimtab_pipelines.preparation.cleaning import redactor_of
from trimtab_pipelines.preparation.dividing import divide
from trimtab_pipelines.preparation.looking import Batch, Wanted, batches, look, prepared
from trimtab_pipelines.preparation.others import held_out_records
from trimtab_pipelines.preparation.reading import rows_of
from trimtab_pipelines.preparation.splitting import split_of
from trimtab_pipelines.preparation.spool import GROUPS, Group, Spool
from trimtab_pipelines.preparation.spreading import Workers, workers
from trimtab_pipelines.preparation.tally import Tally, steps_named
from trimtab_pipelines.prepared import Record
from trimtab_pipelines.report.figures import Figures
from trimtab_pipelines.report.page import page
from trimtab_pipelines.synthesis.stage import Synthesized

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What came out."""

    artifact: PreparedArtifact
    report: str
    records: PreparedRecords
    warnings: list[str]
    recording: str | None = None


def prepare_data(origin: DataOrigin, workspace: Path) -> Prepared:
    """Read, clean, compare, divide, look and push."""
    warnings: list[str] = []
    description = origin.dataset.model_dump_json(by_alias=True, exclude_none=True)
    _, steps = prepared(description)
    tally = Tally(redactor_of(steps), _steps_that_count(origin))
    with workers(is_spread=origin.is_spread) as everybody:
        if origin.synthesis is None:
            wanted = Wanted(description, tuple(tally.steps))
            rows = rows_of(origin, workspace, warnings.append)
            found = _records(everybody, batches(wanted, rows), tally)
            return _prepared(origin, workspace, found, everybody, tally, warnings, None)
        with closing(Synthesized(origin, origin.synthesis, workspace, steps, tally)) as synthesized:
            found = synthesized.records(warnings.append)
            return _prepared(origin, workspace, found, everybody, tally, warnings, synthesized)


def _prepared(
    origin: DataOrigin,
    workspace: Path,
    found: Iterable[Record | None],
    everybody: Workers,
    tally: Tally,
    warnings: list[str],
    synthesized: Synthesized | None,
) -> Prepared:
    dataset = origin.dataset
    directory = workspace / "prepared"
    with Spool(workspace / "spool") as spool:
        read = _collect(found, origin, spool, workspace, warnings.append)
        spool.complete()
        log.info("%d of %d records are compared", len(spool), read)
        threshold = dataset.clean.deduplicate.similarity or DEFAULT_THRESHOLD
        alike = find_alike(spool, threshold, everybody)
        _check_leakage(origin, spool, alike, tally)
        figures = Figures(spool, alike, tally)
        kept = divide(spool, alike, dataset, directory, tally, figures.observe)
        records = PreparedRecords(
            read=read,
            kept=kept.total(),
            train=kept["train"],
            validation=kept["validation"],
            test=kept["test"],
            synthetic=figures.synthetic or None,
            dropped=tally.counts(),
        )
        checks.check(records)
        warnings += checks.remarks(records, dataset, tally, figures.labels)
        if synthesized:
            warnings.append(synthesized.remark(figures.synthetic))
        document = figures.document(dataset, records, warnings)
    for warning in warnings:
        log.warning("%s", warning)
    artifact = asyncio.run(publishing.push_directory(directory, origin.output, kind="Dataset"))
    document["data"] = artifact.digest
    report = publishing.push_report(artifact, origin.output, document, page(document))
    recording = synthesized.publish() if synthesized else None
    return Prepared(artifact, report, records, warnings, recording)


def _steps_that_count(origin: DataOrigin) -> tuple[str, ...]:
    return steps_named(
        is_labelled=any(source.format in TOOLS for source in origin.dataset.sources),
        is_synthetic=origin.synthesis is not None,
    )


def _records(everybody: Workers, found: Iterable[Batch], tally: Tally) -> Iterator[Record | None]:
    """What the rows hold, cleaned; None for each that is dropped."""
    for looked in everybody.each(look, found):
        tally.add(looked.steps)
        yield from looked.records


def _collect(
    found: Iterable[Record | None],
    origin: DataOrigin,
    spool: Spool,
    workspace: Path,
    warn: Callable[[str], None],
) -> int:
    """Put records into the spool, then those of other data; how many were read."""
    read = 0
    for record in found:
        read += 1
        if record is not None:
            spool.add(record, GROUPS[split_of(record, origin.dataset.split)])
    if origin.leakage is not None:
        for other in origin.leakage.against:
            with tempfile.TemporaryDirectory(dir=workspace) as folder:
                for record in held_out_records(other, origin.output, Path(folder), warn):
                    spool.add(record, Group.OTHER)
    return read


def _check_leakage(origin: DataOrigin, spool: Spool, alike: Alike, tally: Tally) -> None:
    """End the run where leakage is not to be mended but to be looked at."""
    if origin.leakage is None or origin.leakage.action is LeakageAction.DROP:
        return
    found = (alike.other != NONE).nonzero()[0]
    if len(found):
        examples = [tally.shown(spool.record(int(number))) for number in found[:3]]
        checks.leakage_found(len(found), examples)
