"""What may be loaded: safetensors, JSON and text. Judged by content, never by name.

A pickle runs code when it is opened, so it is refused before any library sees the file.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError

WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
# All that decides what a model does; whatever else lies beside it is left out or refused.
MODEL_FILES = (
    WEIGHTS,
    INDEX,
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
)
PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")

_LENGTH_BYTES = 8
# The library's own limit.
_LONGEST_HEADER_BYTES = 100_000_000
_DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


def is_model_file(name: str) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in MODEL_FILES)


def check_model_directory(directory: Path) -> None:
    """Refuse a folder that holds anything but sound model files, at its top."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_dir():
            continue
        if not is_model_file(name):
            _unsafe(
                f"{name} is no part of a model that Trimtab loads; only safetensors, configuration and tokenizer files are"
            )
        check_file(path, name)
    check_index(directory)


def check_file(path: Path, name: str) -> None:
    """Refuse a file whose content is not what its name says."""
    if fnmatch(name, WEIGHTS):
        check_safetensors(path, name)
    elif is_pickled(path):
        _unsafe(
            f"{name} is a pickle or an archive under another name; pickles run code when they are opened"
        )
    elif name.endswith(".json"):
        _check_json(path, name)


def is_pickled(path: Path) -> bool:
    """Whether a file begins as pickles, torch's zip archives or HDF5 files do."""
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES)
    is_pickle = start[:1] == b"\x80" and start[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}
    return is_pickle or start.startswith((b"PK\x03\x04", b"\x89HDF"))


def check_safetensors(path: Path, name: str) -> None:
    """Refuse weights that are no safetensors, or whose tensors do not fill the file exactly."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES + 1)
        length = struct.unpack("<Q", start[:_LENGTH_BYTES])[0] if len(start) > _LENGTH_BYTES else 0
        # The length of a sound header may begin like a pickle: what follows it decides.
        if length == 0 or start[_LENGTH_BYTES:] != b"{":
            if is_pickled(path):
                _unsafe(
                    f"{name} is a pickle or an archive, not safetensors; convert the weights with "
                    "safetensors and push them again"
                )
            _corrupt(f"{name} has no safetensors header; download or push it again")
        if length > _LONGEST_HEADER_BYTES:
            _corrupt(f"{name} says that its header is {length} bytes long, which none is")
        if _LENGTH_BYTES + length > size:
            _corrupt(_truncated(name, size, _LENGTH_BYTES + length))
        file.seek(_LENGTH_BYTES)
        header = _parsed_header(file.read(length), name)
    end = _checked_tensors(header, name)
    if _LENGTH_BYTES + length + end > size:
        _corrupt(_truncated(name, size, _LENGTH_BYTES + length + end))
    if _LENGTH_BYTES + length + end < size:
        _corrupt(f"{name} has {size - _LENGTH_BYTES - length - end} bytes behind its last tensor")


def check_index(directory: Path) -> None:
    """Refuse sharded weights of which a shard is missing."""
    index = directory / INDEX
    if not index.exists():
        return
    missing = sorted(name for name in shards_of(index) if not (directory / name).is_file())
    if missing:
        _corrupt(f"{INDEX} names {missing[0]}, which is missing; push all shards")


def shards_of(index: Path) -> set[str]:
    """The files that an index names."""
    try:
        names = json.loads(index.read_bytes())["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError):
        _corrupt(f"{INDEX} cannot be read; download or push it again")
    if any("/" in str(name) or not fnmatch(str(name), WEIGHTS) for name in names):
        _unsafe(f"{INDEX} names files that are not safetensors beside it")
    return set(names)


def wanted_files(names: Iterable[str], shards: Iterable[str] | None = None) -> list[str]:
    """Which files of a repository make the model.

    Some repositories hold the same weights twice: with an index its shards count, else one
    model.safetensors, else every safetensors file.
    """
    files = [name for name in names if is_model_file(name) and name != "adapter_config.json"]
    weights = {name for name in files if fnmatch(name, WEIGHTS)}
    if shards is not None:
        weights = set(shards)
    elif "model.safetensors" in weights:
        weights = {"model.safetensors"}
    return sorted({name for name in files if not fnmatch(name, WEIGHTS)} | weights)


def _parsed_header(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        _corrupt(f"the header of {name} is not valid JSON; download or push it again")
    if not isinstance(header, dict):
        _corrupt(f"the header of {name} is no object; download or push it again")
    return {key: value for key, value in header.items() if key != "__metadata__"}


def _checked_tensors(header: Mapping[str, Any], name: str) -> int:
    """Where the last tensor ends. Tensors lie side by side, without gap and overlap."""
    if not header:
        _corrupt(f"{name} holds no tensor")
    try:
        spans = sorted(_span(tensor) for tensor in header.values())
    except (KeyError, TypeError, ValueError):
        _corrupt(f"the header of {name} describes a tensor wrongly; download or push it again")
    position = 0
    for start, end in spans:
        if start != position:
            _corrupt(f"the tensors of {name} overlap or leave a gap at byte {position} of its data")
        position = end
    return position


def _span(tensor: Mapping[str, Any]) -> tuple[int, int]:
    start, end = tensor["data_offsets"]
    bits = _DTYPE_BITS[tensor["dtype"]] * math.prod(tensor["shape"])
    if start < 0 or any(side < 0 for side in tensor["shape"]) or end - start != bits // 8:
        raise ValueError(tensor)
    return start, end


def _check_json(path: Path, name: str) -> None:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RunError(
            FailureReason.UNSUPPORTED_MODEL, f"{name} is not valid JSON; correct it and push again"
        ) from error


def _truncated(name: str, size: int, expected: int) -> str:
    return (
        f"{name} is truncated: it has {size} bytes, and its header says {expected}; download or "
        "push it again"
    )


def _unsafe(message: str) -> NoReturn:
    raise RunError(FailureReason.UNSAFE_FORMAT, message)


def _corrupt(message: str) -> NoReturn:
    raise RunError(FailureReason.CORRUPT_WEIGHTS, message)
