"""Why an adapter is not served, in the words that reach `status`."""

from enum import StrEnum

from trimtab_api.reasons import FailureReason


class LoadReason(StrEnum):
    """Reasons that only a loading engine can give; the others are those of pods."""

    FINGERPRINT_MISMATCH = "FingerprintMismatch"  # the engine answers as another version would
    INDISTINGUISHABLE = "Indistinguishable"  # right, but its base or a sibling would look the same
    REPORT_MISSING = "ReportMissing"  # without a reference nothing can be verified
    ENGINE_REFUSED = "EngineRefused"  # vLLM did not load it
    ENGINE_UNAVAILABLE = "EngineUnavailable"  # vLLM is starting, or gone


class LoadFailure(Exception):
    """A load that did not end in a verified adapter."""

    def __init__(self, reason: FailureReason | LoadReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
