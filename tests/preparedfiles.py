"""What a preparation has pushed, read as its users read it."""

import io
import json
from itertools import count
from typing import Any

from pyarrow import parquet
from tests.pods import Pod

from trimtab_api.documents import PrepareResult

_numbers = count()


def _folder() -> str:
    return f"pulled-{next(_numbers)}"


def table(data: bytes) -> list[dict[str, Any]]:
    """The records of a split's file."""
    return list(parquet.read_table(io.BytesIO(data)).to_pylist())


def kept(pod: Pod, result: PrepareResult, split: str = "train") -> list[dict[str, Any]]:
    """The records of a split."""
    assert result.failure is None, result.failure
    assert result.data is not None
    files = pod.pulled(result.data.uri, _folder())
    return table(files[f"{split}.parquet"]) if f"{split}.parquet" in files else []


def report_of(pod: Pod, result: PrepareResult) -> tuple[str, dict[str, Any]]:
    """The page and the figures."""
    assert result.report is not None
    files = pod.pulled(result.report, _folder())
    return files["report.html"].decode(), json.loads(files["report.json"])
