"""Networks from folders whose files have been found sound: whole, offline, without foreign code."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError, failure_of

LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError)


def load_network(directory: Path, **options: Any) -> Any:
    """A language model with all of its weights, or a failure that says why there is none."""
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            str(directory),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            output_loading_info=True,
            **options,
        )
    except LOADING_ERRORS as error:
        if failure_of(error).reason == FailureReason.OUT_OF_MEMORY:
            raise  # torch's is a RuntimeError too, and no fault of the model's
        raise cannot_load("model", error) from error
    if report["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise RunError(
            FailureReason.CORRUPT_WEIGHTS,
            f"the weights lack {min(report['missing_keys'])}; push all safetensors files",
        )
    return network


def cannot_load(part: str, error: BaseException) -> RunError:
    return RunError(
        FailureReason.UNSUPPORTED_MODEL, f"transformers cannot load the {part}: {first_line(error)}"
    )


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
