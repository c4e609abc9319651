"""Machine-readable reasons: of conditions, of Events, and of pods' failures.

They are part of the API: tools match on them. One line says what each means; docs/reasons.md is
generated from here.
"""

from enum import StrEnum


class FailureReason(StrEnum):
    """Why a pod could not do its task. `is_user_error` tells whether trying again can help."""

    DATA_EMPTY = "DataEmpty"  # a source has no record
    DATA_MALFORMED = "DataMalformed"  # a line or file cannot be parsed; the message names it
    DATA_ENCODING = "DataEncoding"  # a file is not UTF-8
    COLUMN_MISSING = "ColumnMissing"  # a mapped column does not exist; the message lists the others
    TOO_FEW_RECORDS = "TooFewRecords"  # a split that is needed would be empty
    ONLY_DUPLICATES = "OnlyDuplicates"  # all records are equal
    RECORD_TOO_LONG = "RecordTooLong"  # no record fits into the context
    SOURCE_NOT_FOUND = "SourceNotFound"  # a file, key, object or claim does not exist
    SOURCE_FORBIDDEN = "SourceForbidden"  # credentials are missing or not accepted
    SOURCE_UNREACHABLE = "SourceUnreachable"  # the network or the server fails; tried again
    URI_UNSUPPORTED = "UriUnsupported"  # scheme or form is not known
    REVISION_MISSING = "RevisionMissing"  # hf:// needs a commit
    DIGEST_MISMATCH = "DigestMismatch"  # content is not what its digest says
    UNSAFE_FORMAT = "UnsafeFormat"  # pickle or anything that is not safetensors and JSON
    CORRUPT_WEIGHTS = "CorruptWeights"  # truncated or inconsistent safetensors
    BASE_MISMATCH = "BaseMismatch"  # an adapter of another base model
    RANK_MISMATCH = "RankMismatch"  # an adapter's rank is not what was declared
    UNSUPPORTED_ADAPTER = "UnsupportedAdapter"  # not for vLLM: DoRA, modules_to_save, added tokens
    UNSUPPORTED_MODEL = "UnsupportedModel"  # transformers cannot load it
    LOSS_NOT_FINITE = "LossNotFinite"  # training diverged
    OUT_OF_MEMORY = "OutOfMemory"  # the container was killed for memory, or CUDA ran out
    DISK_FULL = "DiskFull"  # the volume has no space left
    REGISTRY_UNREACHABLE = "RegistryUnreachable"  # tried again; nothing is lost
    REGISTRY_FORBIDDEN = "RegistryForbidden"  # push or pull was refused
    REPORT_INVALID = "ReportInvalid"  # a given report is about something else or cannot be read
    INTERNAL_ERROR = "InternalError"  # a defect of ours; tried again


RETRYABLE = frozenset(
    {
        FailureReason.SOURCE_UNREACHABLE,
        FailureReason.REGISTRY_UNREACHABLE,
        FailureReason.INTERNAL_ERROR,
    }
)


def is_user_error(reason: str) -> bool:
    """Whether trying the same again cannot help."""
    return reason not in RETRYABLE
