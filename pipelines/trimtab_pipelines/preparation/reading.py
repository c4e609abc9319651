"""Rows of sources, one file after the other."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from trimtab_api import names
from trimtab_api.documents.preparation import DataOrigin
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import DataDescription, DatasetTask, Documents, Source
from trimtab_pipelines import paths
from trimtab_pipelines.formats import (
    DOCUMENT_FORMATS,
    Reading,
    Row,
    format_of,
    malformed,
    rows,
)
from trimtab_pipelines.preparation.records import columns_of
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources import Access, Listed, Reader, Secret, open_reader

log = logging.getLogger(__name__)


def rows_of(origin: DataOrigin, workspace: Path, warn: Callable[[str], None]) -> Iterator[Row]:
    """All rows of all sources, in the order of the list and of the files' names."""
    is_empty = bool(origin.dataset.sources)
    for index, source in enumerate(origin.dataset.sources):
        with tempfile.TemporaryDirectory(dir=workspace) as folder:
            access = _access(source, index, origin, Path(folder))
            for row in _rows_of_source(access, source, origin, warn):
                is_empty = False
                yield row
    if is_empty:
        raise RunError(
            FailureReason.DATA_EMPTY,
            "sources: none has a record; wait until callers have corrected some answers, or name other sources",
        )


def _access(source: Source, index: int, origin: DataOrigin, workspace: Path) -> Access:
    return Access(
        uri=source.uri,
        field=f"sources[{index}]",
        secret=Secret(paths.credentials(f"source-{index}")),
        output=origin.output,
        workspace=workspace,
        revision=source.revision,
        task=origin.dataset.task,
        columns=origin.dataset.columns,
    )


def _rows_of_source(
    access: Access, source: Source, origin: DataOrigin, warn: Callable[[str], None]
) -> Iterator[Row]:
    dataset = origin.dataset
    reading = Reading(
        columns=columns_of(dataset),
        documents=dataset.documents or Documents(),
    )
    is_empty = True
    for name, found in files(open_reader(access), source, access, dataset.task, reading):
        log.info("reading %s", name)
        first = next(found, None)
        if first is None:
            warn(f"{name} has no record")
            continue
        is_empty = False
        yield first
        yield from found
    if is_empty and not _may_be_empty(source, dataset):
        raise RunError(
            FailureReason.DATA_EMPTY,
            f"{access.field}: {source.uri.partition('?')[0]} has no record; put some in or remove the source",
        )


def _may_be_empty(source: Source, dataset: DataDescription) -> bool:
    """What callers have corrected so far may be nothing yet: no reason to be without the other sources."""
    return source.uri.startswith(f"{names.CAPTURE}://") and len(dataset.sources) > 1


def files(
    reader: Reader, source: Source, access: Access, task: DatasetTask, reading: Reading
) -> Iterator[tuple[str, Iterator[Row]]]:
    """One file at a time is on the disk: sources may be larger than the pod's."""
    for item in reader.listed():
        kind = format_of(item.name, source.format)
        if kind in DOCUMENT_FORMATS and task is not DatasetTask.TEXT:
            malformed(
                item.name,
                f"it is a document, which has no questions and answers; set task: Text, or the "
                f"source's format if it holds records (it is taken for {kind.value})",
            )
        path = reader.fetch(item)
        _check_size(item, path)
        yield item.name, rows(path, item.name, kind, reading)
        if path.is_relative_to(access.workspace):
            path.unlink()


def _check_size(item: Listed, path: Path) -> None:
    """What was listed is what was fetched: an object may be replaced in between."""
    size = path.stat().st_size
    if item.size is not None and item.size != size:
        raise RunError(
            FailureReason.SOURCE_CHANGED,
            f"{item.name} had {item.size} bytes when it was listed, and {size} when it was read; "
            "finish writing it first",
        )
