"""Prepared data on disk: what is written is read again, equal records are equal bytes, nothing is held whole."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from tests.pods import CONVERSATION

from trimtab_api.v1alpha1.data import DatasetTask
from trimtab_pipelines.prepared import SplitFile, file_of, read_split, write_split

RECORDS: list[Any] = [
    pytest.param(DatasetTask.INSTRUCTION, {"prompt": "Q", "completion": "A"}, id="instructions"),
    pytest.param(DatasetTask.CHAT, {"messages": CONVERSATION}, id="conversations"),
    pytest.param(
        DatasetTask.PREFERENCE, {"prompt": "Q", "chosen": "A", "rejected": "B"}, id="preferences"
    ),
    pytest.param(DatasetTask.TEXT, {"text": "日本\n x"}, id="texts"),
]


@pytest.mark.parametrize(("task", "record"), RECORDS)
@pytest.mark.parametrize("label", [None, "bug"])
def test_what_is_written_is_read_again(
    tmp_path: Path, task: DatasetTask, record: dict[str, Any], label: str | None
) -> None:
    records = [record if label is None else {**record, "label": label}] * 3
    write_split(tmp_path, "train", task, records)
    assert list(read_split(tmp_path, "train")) == records


def test_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    records = [{"text": f"text {n}"} for n in range(20_000)]
    for name in ("one", "other"):
        write_split(tmp_path / name, "train", DatasetTask.TEXT, records)
    one, other = (file_of(tmp_path / name, "train").read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_split_without_records_has_no_file(tmp_path: Path) -> None:
    write_split(tmp_path, "test", DatasetTask.TEXT, [])
    with SplitFile(tmp_path, "train", DatasetTask.TEXT, is_labelled=False):
        pass
    assert list(tmp_path.iterdir()) == []
    assert list(read_split(tmp_path, "test")) == []


def test_rows_are_grouped_by_number_and_by_size(tmp_path: Path) -> None:
    with SplitFile(tmp_path, "train", DatasetTask.TEXT, is_labelled=False) as file:
        for n in range(40):
            file.add({"text": str(n) * 1_000_000}, 1_000_000)
    metadata = parquet.read_metadata(file_of(tmp_path, "train"))
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [17, 17, 6]


def test_reading_holds_a_few_records_at_a_time(tmp_path: Path) -> None:
    records = ({"text": f"{n} " * 2000} for n in range(6000))
    write_split(tmp_path, "train", DatasetTask.TEXT, records)
    tracemalloc.start()
    assert sum(1 for _ in read_split(tmp_path, "train")) == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000  # of 66 MB


def test_data_of_release_0_1_is_still_read(tmp_path: Path) -> None:
    records = [{"prompt": f"Q{n}", "completion": "A"} for n in range(3)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert list(read_split(tmp_path, "test")) == records
