"""Files of records: what is read, and what is said about a file that cannot be."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_pipelines.formats import format_of, rows
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources.globs import fixed_prefix, matching

RECORDS = [{"a": "eins", "b": 'zwölf, "zwei"'}, {"a": "drei\nvier", "b": "日本"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path, kind: SourceFormat) -> list[dict[str, object]]:
    return [row.values for row in rows(path, path.name, kind)]


def test_parquet_is_read(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(RECORDS * 3000), tmp_path / "x.parquet")
    found = list(rows(tmp_path / "x.parquet", "x.parquet", SourceFormat.PARQUET))
    assert [row.values for row in found] == RECORDS * 3000
    assert found[-1].where == "x.parquet, row 6000"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param(SourceFormat.JSONL, "".join(json.dumps(r) + "\n" for r in RECORDS), id="JSONL"),
        pytest.param(SourceFormat.JSONL, "\ufeff" + "\r\n\r\n".join(json.dumps(r) for r in RECORDS), id="JSONL with a mark, blank lines and no last line end"),
        pytest.param(SourceFormat.JSON, json.dumps(RECORDS, indent=4, ensure_ascii=False), id="JSON"),
        pytest.param(SourceFormat.JSON, "\ufeff " + json.dumps(RECORDS), id="JSON with a mark"),
        pytest.param(SourceFormat.CSV, 'a,b\neins,"zwölf, ""zwei"""\n"drei\nvier",日本\n', id="CSV"),
        pytest.param(SourceFormat.CSV, '\ufeffa,b\r\neins,"zwölf, ""zwei"""\r\n\r\n"drei\nvier",日本', id="CSV of Excel"),
    ],
)  # fmt: skip
def test_the_same_records_are_read_from(tmp_path: Path, kind: SourceFormat, content: str) -> None:
    assert values(write(tmp_path / "x", content), kind) == RECORDS


def test_json_larger_than_the_window_is_read_record_by_record(tmp_path: Path) -> None:
    records = [{"a": "ü" * (n % 7) * 50_000, "n": n} for n in range(40)]
    path = write(tmp_path / "x.json", json.dumps(records, ensure_ascii=False))
    assert path.stat().st_size > 10_000_000
    assert values(path, SourceFormat.JSON) == records


@pytest.mark.parametrize(
    ("kind", "content", "reason", "message"),
    [
        pytest.param(SourceFormat.JSONL, b'{"a": 1}\n{"a": }\n', "DataMalformed", "x, line 2: the line is not valid JSON", id="broken JSONL"),
        pytest.param(SourceFormat.JSONL, b"[" * 100_000, "DataMalformed", "x, line 1", id="a line that is nested too deep"),
        pytest.param(SourceFormat.JSON, b'[{"a": 1}, {"a": }]', "DataMalformed", "x, record 2", id="broken JSON"),
        pytest.param(SourceFormat.JSON, b'[{"a": 1} {"a": 2}]', "DataMalformed", "record 1: neither a comma", id="JSON without a comma"),
        pytest.param(SourceFormat.JSON, b'[{"a": 1}', "DataMalformed", "record 1: neither a comma", id="JSON that ends early"),
        pytest.param(SourceFormat.JSON, b'[{"a": 1},]', "DataMalformed", "remove it", id="JSON with a last comma"),
        pytest.param(SourceFormat.JSON, b'{"a": 1}\n{"a": 2}', "DataMalformed", "for one object per line use JSONL", id="JSONL said to be JSON"),
        pytest.param(SourceFormat.JSON, b'[{"a": "\xff"}]', "DataEncoding", "position 8 of the file", id="JSON that is not UTF-8"),
        pytest.param(SourceFormat.JSON, b"[1]", "DataMalformed", "must be an object, not a number", id="a number for a record"),
        pytest.param(SourceFormat.CSV, b"a,b\n1,2\n1,2,3\n", "DataMalformed", "line 3: it has 3 cells, and the header has 2", id="a cell too many"),
        pytest.param(SourceFormat.CSV, b'a,b\n1,"2\n', "DataMalformed", "check its quotes", id="an open quote"),
        pytest.param(SourceFormat.CSV, b"a,a\n1,2\n", "DataMalformed", "names a more than once", id="a doubled header"),
        pytest.param(SourceFormat.CSV, b"a,b\n1,caf\xe9\n", "DataEncoding", "line 2: the byte at position 9", id="CSV that is not UTF-8"),
        pytest.param(SourceFormat.PARQUET, b"PAR1 no, it is not", "DataMalformed", "cannot be read as Parquet", id="no Parquet"),
        pytest.param(SourceFormat.JSONL, gzip.compress(b"{}"), "DataEncoding", "position 1", id="compressed JSONL"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_the_place(
    tmp_path: Path, kind: SourceFormat, content: bytes, reason: str, message: str
) -> None:
    with pytest.raises(RunError) as caught:
        values(write(tmp_path / "x", content), kind)
    assert caught.value.reason == FailureReason(reason)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "kind", [SourceFormat.JSONL, SourceFormat.CSV, SourceFormat.PARQUET, SourceFormat.JSON]
)
def test_an_empty_file_has_no_records(tmp_path: Path, kind: SourceFormat) -> None:
    assert values(write(tmp_path / "x", ""), kind) == []


def test_the_ending_tells_the_format_unless_the_user_does() -> None:
    assert format_of("s3://b/x.PARQUET", SourceFormat.AUTO) is SourceFormat.PARQUET
    assert format_of("configmap://c/key", SourceFormat.CSV) is SourceFormat.CSV
    with pytest.raises(RunError, match="set the source's format"):
        format_of("configmap://c/key", SourceFormat.AUTO)


PATHS = ["a.jsonl", "b.json", "x/a.jsonl", "x/y/a.jsonl", "x/y/b[1].jsonl"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        pytest.param("*.jsonl", ["a.jsonl"], id="a star stays in its folder"),
        pytest.param("**/*.jsonl", ["a.jsonl", "x/a.jsonl", "x/y/a.jsonl", "x/y/b[1].jsonl"], id="two stars go through folders"),
        pytest.param("x/**", ["x/a.jsonl", "x/y/a.jsonl", "x/y/b[1].jsonl"], id="two stars at the end take all"),
        pytest.param("[ab].json*", ["a.jsonl", "b.json"], id="one of several characters"),
        pytest.param("[!a].json", ["b.json"], id="none of several characters"),
        pytest.param("?.json", ["b.json"], id="any one character"),
        pytest.param("x/a.jsonl", ["x/a.jsonl"], id="a plain path"),
        pytest.param("x", [], id="a folder is no file"),
    ],
)  # fmt: skip
def test_globs(pattern: str, found: list[str]) -> None:
    assert matching(PATHS, pattern) == found
    assert all(path.startswith(fixed_prefix(pattern)) for path in found)
