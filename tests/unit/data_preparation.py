"""The stage `prepare` on data: what goes in, and what comes out."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from tests.pods import CONVERSATION, Pod, jsonl, pairs

from trimtab_api.v1alpha1.data import DatasetTask, Source
from trimtab_pipelines.formats import Reading
from trimtab_pipelines.preparation import reading
from trimtab_pipelines.preparation.splitting import bucket_of
from trimtab_pipelines.sources import Access, Listed, Secret

URI = "pvc://claim/in.jsonl"


def table(data: bytes) -> list[Any]:
    return list(parquet.read_table(io.BytesIO(data)).to_pylist())


def test_records_are_divided_pushed_and_counted(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(200)))
    result = pod.prepare(URI)
    assert pod.exit_code == 0
    assert result.records is not None
    assert result.data is not None
    files = pod.pulled(result.data.uri)
    assert sorted(files) == ["dataset.json", "test.parquet", "train.parquet", "validation.parquet"]
    divided = {
        name: len(table(files[f"{name}.parquet"])) for name in ("train", "validation", "test")
    }
    counts = result.records
    assert divided == {
        "train": counts.train,
        "validation": counts.validation,
        "test": counts.test,
    }
    assert (counts.read, counts.kept) == (200, 200)
    assert json.loads(files["dataset.json"]) == {"task": "Instruction", "records": divided}
    assert pod.manifest(result.data.uri).kind == "Dataset"


def test_the_same_data_has_the_same_digest_wherever_it_comes_from(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(50)))
    pod.file("/configmaps/tickets/all.json", json.dumps(pairs(50)))
    first, second = pod.prepare(URI), pod.prepare("configmap://tickets/all.json")
    assert first.data is not None
    assert second.data is not None
    assert first.data.digest == second.data.digest


def test_new_data_moves_no_old_record(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(300)))
    pod.file("/claims/claim/more.jsonl", jsonl(*pairs(300, start=300)))
    before, after = pod.prepare(URI), pod.prepare(URI, "pvc://claim/more.jsonl")
    assert before.data is not None
    assert after.data is not None
    old, new = pod.pulled(before.data.uri, "old"), pod.pulled(after.data.uri, "new")
    for name in ("train", "validation", "test"):
        before_, after_ = table(old[f"{name}.parquet"]), table(new[f"{name}.parquet"])
        assert after_[: len(before_)] == before_


def test_the_bucket_of_a_value_is_the_same_in_every_release() -> None:
    values = [("", 0), ("Because.", 0), ("Because.", 7), ("日本", 7)]
    assert [bucket_of(value, seed) for value, seed in values] == [21, 25, 93, 28]


@pytest.mark.parametrize(
    ("by", "part"),
    [
        pytest.param("Completion", "completion", id="answers"),
        pytest.param("Prompt", "prompt", id="questions"),
    ],
)
def test_equal_parts_never_fall_on_both_sides(pod: Pod, by: str, part: str) -> None:
    records = [
        {"prompt": f"Q{n}?", "completion": f"A{n}.", part: f"A{n % 20}."} for n in range(400)
    ]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, split={"train": 60, "validation": 20, "test": 20, "by": by})
    assert result.data is not None
    files = pod.pulled(result.data.uri)
    found = [
        {record[part] for record in table(files[f"{name}.parquet"])}
        for name in ("train", "validation", "test")
    ]
    assert sum(map(len, found)) == len(set().union(*found)) == 20


def test_exact_duplicates_are_dropped_and_counted(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(100), *pairs(40)))
    result = pod.prepare(URI)
    assert result.records is not None
    assert (result.records.read, result.records.kept) == (140, 100)
    assert "40 of 140 records were exact duplicates and dropped" in result.warnings


def test_columns_are_mapped_and_others_are_left_out(pod: Pod) -> None:
    records = [{"question": f"Q{n}", "reply": n, "id": n} for n in range(30)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, columns={"prompt": "question", "completion": "reply"})
    assert result.data is not None
    record = table(pod.pulled(result.data.uri)["train.parquet"])[0]
    assert record == {"prompt": "Q0", "completion": "0"}


def test_a_glob_reads_all_files_in_the_order_of_their_names(pod: Pod) -> None:
    pod.file("/claims/claim/deep/b.jsonl", jsonl(*pairs(20, start=20)))
    pod.file("/claims/claim/deep/a.jsonl", jsonl(*pairs(20)))
    pod.file("/claims/claim/deep/readme.md", "not data")
    result = pod.prepare("pvc://claim/**/*.jsonl", split={"train": 100, "validation": 0, "test": 0})
    assert result.data is not None
    train = table(pod.pulled(result.data.uri)["train.parquet"])
    assert [record["prompt"] for record in train] == [f"Q{n}?" for n in range(40)]


@dataclass(frozen=True)
class Downloads:
    """A source whose files come one by one into the workspace."""

    workspace: Path

    def listed(self) -> list[Listed]:
        return [Listed(f"{name}.jsonl", f"far://{name}.jsonl") for name in "abc"]

    def fetch(self, item: Listed) -> Path:
        path = self.workspace / item.key
        path.write_text(jsonl(*pairs(2)))
        return path


def test_of_what_is_downloaded_one_file_at_a_time_is_on_the_disk(pod: Pod) -> None:
    place = pod.file("/workspace/x", "").parent
    (place / "x").unlink()
    access = Access(
        uri="far://", field="", secret=Secret(place), output=pod.output(), workspace=place
    )
    source = Source(uri="s3://a/b")
    for name, found in reading.files(
        Downloads(place), source, access, DatasetTask.INSTRUCTION, Reading()
    ):
        assert [f"far://{path.name}" for path in place.iterdir()] == [name]
        assert len(list(found)) == 2
    assert list(place.iterdir()) == []


def test_keys_of_a_configmap_are_read_once(pod: Pod) -> None:
    pod.file("/configmaps/tickets/..2026_11_22/a.jsonl", jsonl(*pairs(20)))
    (pod.root / "configmaps/tickets/..data").symlink_to("..2026_11_22")
    (pod.root / "configmaps/tickets/a.jsonl").symlink_to("..data/a.jsonl")
    result = pod.prepare("configmap://tickets/**/*.jsonl")
    assert result.records is not None
    assert result.records.read == 20


def test_prepared_data_is_a_source_too(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(60)))
    first = pod.prepare(URI)
    assert first.data is not None
    second = pod.prepare(first.data.uri)
    assert second.records == first.records
    only_test = pod.prepare(f"{first.data.uri}#t*.parquet")
    assert only_test.records is not None
    assert first.records is not None
    assert only_test.records.read == first.records.train + first.records.test


def test_the_result_survives_the_pod(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(50)))
    result = pod.prepare(URI)
    stored = f"oci://{pod.registry.address}/team/data:run-1"
    assert pod.manifest(stored).artifact_type == "application/vnd.trimtab.result.v1+json"
    assert result.failure is None


def test_conversations_are_kept_as_they_are(pod: Pod) -> None:
    records = [
        {
            "messages": [
                *CONVERSATION,
                {"role": "user", "content": f"{n}?"},
                {"role": "assistant", "content": f"{n}!"},
            ]
        }
        for n in range(30)
    ]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, task="Chat", split={"train": 100, "validation": 0, "test": 0})
    assert result.data is not None
    assert table(pod.pulled(result.data.uri)["train.parquet"]) == records
    again = pod.prepare(
        result.data.uri, task="Chat", split={"train": 100, "validation": 0, "test": 0}
    )
    assert again.data is not None
    assert again.data.digest == result.data.digest


def test_splits_that_are_empty_are_told_of(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(3)))
    result = pod.prepare(URI)
    assert pod.exit_code == 0
    assert "the test split has no record: 3 records are too few for 5 %" in result.warnings
