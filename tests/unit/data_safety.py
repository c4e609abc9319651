"""What may be loaded: judged by content, with files as attackers and bad networks make them."""

import io
import json
import struct
import zipfile
from pathlib import Path

import pytest

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.safety import (
    INDEX,
    check_model_directory,
    check_safetensors,
    wanted_files,
)


def safetensors(
    tensors: dict[str, object] | None = None, data: bytes = bytes(16), pad: int = 0
) -> bytes:
    """A file by hand, so that it can be wrong in any way."""
    described = tensors or {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    header = json.dumps(described).encode()
    header += b" " * (pad - len(header))
    return struct.pack("<Q", len(header)) + header + data


def torch_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return buffer.getvalue()


def tensor(
    dtype: str = "F32", shape: list[int] | None = None, start: int = 0, end: int = 16
) -> object:
    return {"dtype": dtype, "shape": shape or [4], "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(safetensors(), id="one tensor"),
        pytest.param(safetensors({"__metadata__": {"format": "pt"}, "w": tensor()}), id="with metadata"),
        pytest.param(safetensors({"b": tensor("F16", [4], 8, 16), "a": tensor("I64", [1], 0, 8)}), id="tensors in any order"),
        pytest.param(safetensors({"w": tensor("F4", [32])}), id="four bits a number"),
        pytest.param(safetensors({"w": tensor(shape=[0], end=0)}, b""), id="an empty tensor"),
        # 0x0280 and 0x0480: the length begins like a pickle of protocol 2 and 4.
        pytest.param(safetensors(pad=0x0280), id="a header as long as a pickle's first bytes"),
        pytest.param(safetensors(pad=0x0480), id="the same for a newer pickle"),
    ],
)  # fmt: skip
def test_sound_weights_pass(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    check_safetensors(path, path.name)


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        pytest.param(b"\x80\x02}q\x00.", "UnsafeFormat", "is a pickle", id="a pickle named .safetensors"),
        pytest.param(b"\x80\x04\x95" + bytes(40), "UnsafeFormat", "is a pickle", id="a newer pickle"),
        pytest.param(torch_zip(), "UnsafeFormat", "is a pickle or an archive", id="torch's archive"),
        pytest.param(safetensors()[:-1], "CorruptWeights", "is truncated: it has", id="one byte too few"),
        pytest.param(safetensors()[:20], "CorruptWeights", "is truncated", id="cut in the header"),
        pytest.param(b"", "CorruptWeights", "no safetensors header", id="an empty file"),
        pytest.param(b"<html>not found</html>", "CorruptWeights", "no safetensors header", id="an error page"),
        pytest.param(safetensors() + b"x", "CorruptWeights", "1 bytes behind its last tensor", id="a byte too many"),
        pytest.param(safetensors({"w": tensor(start=4, end=20)}), "CorruptWeights", "leave a gap at byte 0", id="a gap"),
        pytest.param(safetensors({"a": tensor(), "b": tensor()}), "CorruptWeights", "overlap", id="tensors over each other"),
        pytest.param(safetensors({"w": tensor(shape=[5])}), "CorruptWeights", "describes a tensor wrongly", id="a shape that does not fit"),
        pytest.param(safetensors({"w": tensor("F33")}), "CorruptWeights", "describes a tensor wrongly", id="an unknown number format"),
        pytest.param(safetensors({"w": tensor(shape=[-4])}), "CorruptWeights", "describes a tensor wrongly", id="a negative side"),
        pytest.param(safetensors({"w": [1]}), "CorruptWeights", "describes a tensor wrongly", id="no description"),
        pytest.param(struct.pack("<Q", 4) + b"{\"a}" + bytes(9), "CorruptWeights", "not valid JSON", id="a broken header"),
        pytest.param(struct.pack("<Q", 1 << 60) + b"{" + bytes(9), "CorruptWeights", "which none is", id="an endless header"),
        pytest.param(safetensors({"__metadata__": {}}, b""), "CorruptWeights", "holds no tensor", id="no tensor"),
    ],
)  # fmt: skip
def test_unsound_weights_are_refused(
    tmp_path: Path, content: bytes, reason: str, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        check_safetensors(path, path.name)
    assert caught.value.reason == FailureReason(reason)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        pytest.param("pytorch_model.bin", b"\x80\x02.", "UnsafeFormat", id="pickled weights"),
        pytest.param("modeling_own.py", b"print()", "UnsafeFormat", id="code"),
        pytest.param("deep/model.safetensors", safetensors(), "UnsafeFormat", id="a folder"),
        pytest.param("tokenizer.model", b"\x80\x04\x95.", "UnsafeFormat", id="a pickle for a tokenizer"),
        pytest.param("vocab.json", torch_zip(), "UnsafeFormat", id="an archive for a vocabulary"),
        pytest.param("generation_config.json", b"{", "UnsupportedModel", id="JSON that is none"),
        pytest.param(INDEX, b'{"weight_map": {"w": "model-00002-of-00002.safetensors"}}', "CorruptWeights", id="a missing shard"),
        pytest.param(INDEX, b'{"weight_map": {"w": "../../x.safetensors"}}', "UnsafeFormat", id="a shard elsewhere"),
    ],
)  # fmt: skip
def test_what_is_no_part_of_a_model_is_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "model.safetensors").write_bytes(safetensors())
    (tmp_path / "config.json").write_text("{}")
    check_model_directory(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError) as caught:
        check_model_directory(tmp_path)
    assert caught.value.reason == FailureReason(reason)


def test_weights_that_are_there_twice_are_taken_once() -> None:
    names = ["config.json", "README.md", "consolidated.safetensors", "model.safetensors", "a.bin"]
    assert wanted_files(names) == ["config.json", "model.safetensors"]
    assert wanted_files(names, {"consolidated.safetensors"}) == [
        "config.json",
        "consolidated.safetensors",
    ]
