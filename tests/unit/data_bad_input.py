"""What sources can do to a preparation: each case ends with one sentence, in bounded memory, with nothing published."""

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.pods import Pod, jsonl, pairs
from tests.preparedfiles import kept, report_of

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_pipelines.formats import LONGEST_RECORD_BYTES, Reading, rows
from trimtab_pipelines.runtime import RunError

ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}
READING = Reading(columns=("prompt", "completion"))


def refused(pod: Pod, uri: str, **dataset: Any) -> tuple[str, str]:
    """Reason and message of a preparation that pushed no data."""
    before = set(pod.registry.manifests)
    result = pod.prepare(uri, **dataset)
    assert result.failure is not None
    pushed = [pod.registry.manifests[name][1] for name in set(pod.registry.manifests) - before]
    assert all(b"vnd.trimtab.result" in manifest for manifest in pushed)
    return result.failure.reason, result.failure.message


def test_a_source_that_grows_while_it_is_read_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(jsonl(*pairs(3)))
    found = rows(path, "x.jsonl", SourceFormat.JSONL)
    next(found)
    with path.open("a") as file:
        file.write(jsonl(*pairs(3)))
    with pytest.raises(RunError) as caught:
        list(found)
    assert caught.value.reason is FailureReason.SOURCE_CHANGED
    assert "x.jsonl changed while it was read" in caught.value.message


def test_a_line_that_is_still_being_written_is_no_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(jsonl(*pairs(1)) + '{"prompt": "half')
    found = rows(path, "x.jsonl", SourceFormat.JSONL)
    next(found)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RunError) as caught:
        list(found)
    assert caught.value.reason is FailureReason.SOURCE_CHANGED


def test_files_of_two_encodings_are_told_apart_by_line(pod: Pod) -> None:
    good = jsonl(*pairs(5)).encode()
    pod.file("/claims/claim/a.jsonl", good)
    bad = json.dumps({"prompt": "caf\xe9", "completion": "x"}, ensure_ascii=False)
    pod.file("/claims/claim/b.jsonl", good + bad.encode("latin-1") + b"\n")
    reason, message = refused(pod, "pvc://claim/*.jsonl")
    assert reason == FailureReason.DATA_ENCODING
    assert "b.jsonl, line 6" in message


def a_long_line(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(jsonl(*pairs(2)).encode() + b'{"prompt": "')
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'", "completion": "y"}\n')
    return path


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        pytest.param(SourceFormat.JSONL, "x, line 3", id="JSONL"),
        pytest.param(SourceFormat.PLAIN_TEXT, "x, line 3", id="plain text"),
    ],
)
def test_a_line_of_200_mb_is_refused_with_its_number(
    tmp_path: Path, kind: SourceFormat, where: str
) -> None:
    path = a_long_line(tmp_path / "x")
    tracemalloc.start()
    with pytest.raises(RunError) as caught:
        list(rows(path, "x", kind, READING))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason is FailureReason.LINE_TOO_LONG
    assert where in caught.value.message
    assert peak < 3 * LONGEST_RECORD_BYTES


def test_one_endless_record_of_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'[{"a": "b"}, {"a": "' + b"x" * (LONGEST_RECORD_BYTES + (2 << 20)))
    with pytest.raises(RunError) as caught:
        list(rows(path, "x.json", SourceFormat.JSON))
    assert caught.value.reason is FailureReason.LINE_TOO_LONG
    assert "x.json, record 2" in caught.value.message


COLUMNS: list[Any] = [
    pytest.param(
        {"prompt": {"text": "a"}, "completion": "b"}, '"prompt" is not a text', id="nested"
    ),
    pytest.param({"prompt": ["a"], "completion": "b"}, '"prompt" is not a text', id="a list"),
    pytest.param({"prompt": None, "completion": "b"}, '"prompt" is empty', id="null"),
    pytest.param(
        {"prompt": "\x00\ufeff", "completion": "b"}, '"prompt" is empty', id="unseen alone"
    ),
]


@pytest.mark.parametrize(("record", "message"), COLUMNS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_nested_and_null_columns_are_named(
    pod: Pod, record: dict[str, Any], message: str, kind: str
) -> None:
    path = pod.file(f"/claims/claim/in.{kind}", jsonl(record))
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist([record]), path)
    reason, said = refused(pod, f"pvc://claim/in.{kind}")
    assert reason == FailureReason.DATA_MALFORMED
    assert f"in.{kind}, " in said
    assert " 1: " + message in said


def test_columns_that_are_not_looked_at_may_be_anything(pod: Pod) -> None:
    records = [{**p, "extra": {"deep": [None, n]}, "none": None} for n, p in enumerate(pairs(20))]
    path = pod.file("/claims/claim/in.parquet", "")
    parquet.write_table(pa.Table.from_pylist(records), path)
    result = pod.prepare("pvc://claim/in.parquet", split=ALL_TRAIN)
    assert kept(pod, result) == pairs(20)


def test_parquet_with_other_columns_in_each_file_is_named_by_file(pod: Pod) -> None:
    first = pod.file("/claims/claim/a.parquet", "")
    parquet.write_table(pa.Table.from_pylist([{**p, "more": 1} for p in pairs(3)]), first)
    second = pod.file("/claims/claim/b.parquet", "")
    parquet.write_table(pa.Table.from_pylist([{"completion": "b", "prompt": "a"}]), second)
    assert len(kept(pod, pod.prepare("pvc://claim/*.parquet", split=ALL_TRAIN))) == 4
    parquet.write_table(pa.Table.from_pylist([{"question": "a", "completion": "b"}]), second)
    reason, message = refused(pod, "pvc://claim/*.parquet")
    assert reason == FailureReason.COLUMN_MISSING
    assert (
        'b.parquet, row 1: there is no column "prompt"; there are: question, completion' in message
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param('prompt,completion\na,b\n"c,d\ne,f\n', "line 3: the line is not valid CSV", id="never closed"),
        pytest.param('prompt,completion\na,"b"c"\ne,f\n', "line 2: the line is not valid CSV", id="in the middle of a cell"),
        pytest.param('prompt,completion\n"a\n,b\nc",d\n', "", id="a cell of several lines is fine"),
    ],
)  # fmt: skip
def test_a_stray_quote_in_csv_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    if not message:
        assert len(list(rows(path, "x.csv", SourceFormat.CSV))) == 1
        return
    with pytest.raises(RunError, match=message):
        list(rows(path, "x.csv", SourceFormat.CSV))


def test_a_quote_that_takes_in_the_whole_file_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with path.open("w") as file:
        file.write('prompt,completion\na,"b\n')
        for _ in range(70):
            file.write(("x" * 1023 + "\n") * 1024)
    with pytest.raises(RunError, match="line 2: a quote that opens here is not closed"):
        list(rows(path, "x.csv", SourceFormat.CSV))


def bomb_by_dictionary(path: Path) -> None:
    """2 KB that are 300 GB of text: one long entry, and many rows that refer to it."""
    entry = pa.DictionaryArray.from_arrays(
        pa.array([0] * 3000, pa.int32()), pa.array(["x" * 100_000_000])
    )
    parquet.write_table(
        pa.table({"prompt": pa.array(["q"] * 3000), "completion": entry}), path, compression="zstd"
    )


def bomb_by_compression(path: Path) -> None:
    """Many long texts that pack to nothing."""
    texts = pa.array(["x" * 1_000_000] * 300)
    parquet.write_table(
        pa.table({"prompt": texts, "completion": texts}),
        path,
        compression="zstd",
        use_dictionary=False,
    )


def bomb_by_footer(path: Path) -> None:
    """Three gigabytes of metadata, which take no room in a file with a hole."""
    with path.open("wb") as file:
        file.write(b"PAR1")
        file.truncate(3 << 30)
        file.seek(0, os.SEEK_END)
        file.write(((3 << 30) - 4).to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize(
    ("bomb", "reason"),
    [
        pytest.param(bomb_by_footer, "UnpacksTooLarge", id="by what describes the file"),
        pytest.param(bomb_by_dictionary, "UnpacksTooLarge", id="by a dictionary"),
        pytest.param(bomb_by_compression, "UnpacksTooLarge", id="by compression"),
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, bomb: Any, reason: str) -> None:
    path = tmp_path / "x.parquet"
    bomb(path)
    before = pa.total_allocated_bytes()
    with pytest.raises(RunError) as caught:
        list(rows(path, "x.parquet", SourceFormat.PARQUET, READING))
    assert caught.value.reason == FailureReason(reason)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_wide_file_with_many_groups_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {f"column-{n}": pa.array(["a"] * 40) for n in range(300)}
    columns |= {"prompt": pa.array(["q"] * 40), "completion": pa.array(["a"] * 40)}
    parquet.write_table(pa.table(columns), path, row_group_size=1)
    assert sum(1 for _ in rows(path, "x.parquet", SourceFormat.PARQUET, READING)) == 40


def test_what_only_ends_like_a_length_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(RunError, match="cannot be read as Parquet"):
        list(rows(path, "x.parquet", SourceFormat.PARQUET, READING))


def test_rows_that_share_one_long_text_are_unfolded_a_few_at_a_time(tmp_path: Path) -> None:
    text = "".join(chr(97 + n % 26) + str(n) for n in range(400_000))  # 2.7 MB that do not pack
    entry = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([text]))
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"prompt": entry, "completion": entry}), path)
    tracemalloc.start()
    count = sum(1 for _ in rows(path, "x.parquet", SourceFormat.PARQUET, READING))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 500
    assert peak < 100_000_000


def test_a_row_that_is_too_long_is_named(tmp_path: Path) -> None:
    chance = os.urandom(70 << 19).hex()
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pylist(
        [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": chance}]
    )
    parquet.write_table(table, path)
    with pytest.raises(RunError, match=r"x.parquet, row 2: the record is longer than 64 MiB"):
        list(rows(path, "x.parquet", SourceFormat.PARQUET, READING))


@pytest.mark.parametrize("name", ["in.xlsx", "in.jsonl.gz", "in.zip"])
def test_archives_are_not_unpacked(pod: Pod, name: str) -> None:
    pod.file(f"/claims/claim/{name}", b"PK\x03\x04")
    reason, message = refused(pod, f"pvc://claim/{name}")
    assert reason == FailureReason.DATA_MALFORMED
    assert "set the source's format" in message


def test_labels_of_one_class_are_told_of(pod: Pod) -> None:
    records = [{**p, "kind": "bug"} for p in pairs(40)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare("pvc://claim/in.jsonl", columns={"label": "kind"}, split=ALL_TRAIN)
    assert kept(pod, result)[0] == {**pairs(1)[0], "label": "bug"}
    assert (
        'all 40 records of the train split have the label "bug": nothing can be told about others'
        in result.warnings
    )
    assert report_of(pod, result)[1]["labels"]["train"] == [
        {"label": "bug", "count": 40, "share": 1.0}
    ]


def test_a_label_that_is_missing_is_named(pod: Pod) -> None:
    records: list[dict[str, Any]] = [{**p, "kind": "bug"} for p in pairs(3)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records, {**pairs(1)[0], "kind": None}))
    reason, message = refused(pod, "pvc://claim/in.jsonl", columns={"label": "kind"})
    assert reason == FailureReason.DATA_MALFORMED
    assert 'line 4: "kind" is empty' in message


def test_preferences_need_two_different_answers(pod: Pod) -> None:
    records = [{"prompt": f"Q{n}", "chosen": f"A{n}", "rejected": f"B{n}"} for n in range(20)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare("pvc://claim/in.jsonl", task="Preference", split=ALL_TRAIN)
    assert kept(pod, result) == records
    pod.file("/claims/claim/in.jsonl", jsonl({**records[0], "rejected": "A0 "}))
    reason, message = refused(pod, "pvc://claim/in.jsonl", task="Preference")
    assert reason == FailureReason.DATA_MALFORMED
    assert "which prefers nothing" in message


@pytest.fixture
def registry_down(pod: Pod) -> Iterator[None]:
    pod.registry.failures.extend([403] * 20)
    yield
    pod.registry.failures.clear()


@pytest.mark.usefixtures("registry_down")
def test_data_that_cannot_be_pushed_is_not_half_there(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(30)))
    before = {name for name, (_, raw) in pod.registry.manifests.items() if b'"Dataset"' in raw}
    result = pod.prepare("pvc://claim/in.jsonl", clean={"characters": {"min": 1}})
    after = {name for name, (_, raw) in pod.registry.manifests.items() if b'"Dataset"' in raw}
    assert result.failure is not None
    assert result.data is None
    assert after == before
