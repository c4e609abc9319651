"""Which split a record belongs to: by hash, so that equal values stay together and new data moves nothing.

A split is a stretch of the buckets 0..99: first training, then validation, then test.
"""

import hashlib

from trimtab_api.v1alpha1.data import Split
from trimtab_pipelines.preparation.records import split_value
from trimtab_pipelines.prepared import Record

BUCKETS = 100


def bucket_of(value: str, seed: int) -> int:
    """Where a value falls; a matter of the value and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0{value}".encode()).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def split_of(record: Record, split: Split) -> str:
    """The split that a record belongs to."""
    bucket = bucket_of(split_value(record, split.by), split.seed)
    if bucket < split.train:
        return "train"
    return "validation" if bucket < split.train + split.validation else "test"
