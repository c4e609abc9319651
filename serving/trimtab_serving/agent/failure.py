"""Why an adapter is not served, in the words that reach `status`."""

from trimtab_api.reasons import FailureReason, LoadReason


class LoadFailure(Exception):
    """A load that did not end in a verified adapter."""

    def __init__(self, reason: FailureReason | LoadReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
