"""Sources in, one artifact of prepared data out."""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from trimtab_api.documents.preparation import DataOrigin, PreparedArtifact
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import DataDescription, PreparedRecords, Source
from trimtab_pipelines import paths
from trimtab_pipelines.formats import Row, format_of, rows
from trimtab_pipelines.preparation.publishing import push_directory
from trimtab_pipelines.preparation.records import record_of
from trimtab_pipelines.preparation.splitting import SplitWriter
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources import Access, Reader, Secret, open_reader

log = logging.getLogger(__name__)

# Fewer cannot be divided into what is learnt from and what is measured on.
_FEWEST_RECORDS = 2


def prepare_data(
    origin: DataOrigin, workspace: Path
) -> tuple[PreparedArtifact, PreparedRecords, list[str]]:
    """Read, check, divide and push; with the counts and what the user should know."""
    directory = workspace / "prepared"
    warnings: list[str] = []
    with SplitWriter(directory, origin.dataset) as writer:
        for index, source in enumerate(origin.dataset.sources):
            with tempfile.TemporaryDirectory(dir=workspace) as folder:
                access = access_of(source, index, origin, Path(folder))
                _read_source(access, source, origin.dataset, writer, warnings.append)
        counts = writer.counts
        _check_counts(counts)
        writer.write_document()
    warnings += _findings(counts, origin.dataset)
    for warning in warnings:
        log.warning("%s", warning)
    log.info("%s", counts)
    pushed = asyncio.run(push_directory(directory, origin.output, kind="Dataset"))
    return pushed, counts, warnings


def access_of(source: Source, index: int, origin: DataOrigin, workspace: Path) -> Access:
    return Access(
        uri=source.uri,
        field=f"dataset.inline.sources[{index}]",
        secret=Secret(paths.credentials(f"source-{index}")),
        output=origin.output,
        workspace=workspace,
        revision=source.revision,
    )


def _read_source(
    access: Access,
    source: Source,
    dataset: DataDescription,
    writer: SplitWriter,
    warn: Callable[[str], None],
) -> None:
    before = writer.read
    reader = open_reader(access)
    for name, found in _files(reader, source, access):
        log.info("reading %s", name)
        before_file = writer.read
        for row in found:
            writer.add(record_of(row, dataset.task, dataset.columns))
        if writer.read == before_file:
            warn(f"{name} has no record")
    if writer.read == before:
        raise RunError(
            FailureReason.DATA_EMPTY,
            f"{access.field}: {source.uri.partition('?')[0]} has no record; put some in or remove the source",
        )


def _files(reader: Reader, source: Source, access: Access) -> Iterator[tuple[str, Iterator[Row]]]:
    """One file at a time is on the disk: sources may be larger than the pod's."""
    for item in reader.listed():
        kind = format_of(item.name, source.format)
        path = reader.fetch(item)
        yield item.name, rows(path, item.name, kind)
        if path.is_relative_to(access.workspace):
            path.unlink()


def _check_counts(counts: PreparedRecords) -> None:
    if counts.read >= _FEWEST_RECORDS and counts.kept == 1:
        raise RunError(
            FailureReason.ONLY_DUPLICATES,
            f"all {counts.read} records are equal; check the sources and dataset.columns",
        )
    if counts.kept < _FEWEST_RECORDS:
        raise RunError(
            FailureReason.TOO_FEW_RECORDS,
            "the sources have only one record; at least two different ones are needed to train "
            "and to evaluate",
        )
    if counts.train == 0:
        raise RunError(
            FailureReason.TOO_FEW_RECORDS,
            f"none of the {counts.kept} records falls into the training split; add records, raise "
            "split.train or choose another split.seed",
        )


def _findings(counts: PreparedRecords, dataset: DataDescription) -> list[str]:
    found = []
    if counts.read > counts.kept:
        found.append(
            f"{counts.read - counts.kept} of {counts.read} records were exact duplicates and dropped"
        )
    for name, share, kept in (
        ("validation", dataset.split.validation, counts.validation),
        ("test", dataset.split.test, counts.test),
    ):
        if share and not kept:
            found.append(
                f"the {name} split has no record: {counts.kept} records are too few for {share} %"
            )
    return found
