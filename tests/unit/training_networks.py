"""What is said when a network cannot be loaded: the model's fault, or the machine's."""

from pathlib import Path
from typing import Any

import pytest

from trimtab_api.reasons import FailureReason
from trimtab_pipelines import networks
from trimtab_pipelines.runtime import failure_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(
            RuntimeError("size mismatch for lm_head.weight\nand more"),
            FailureReason.UNSUPPORTED_MODEL,
            id="a configuration that does not fit its weights",
        ),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            FailureReason.OUT_OF_MEMORY,
            id="a machine with too little memory",
        ),
        pytest.param(MemoryError(), FailureReason.OUT_OF_MEMORY, id="memory that Python wanted"),
    ],
)
def test_memory_that_runs_out_is_no_fault_of_the_model(
    error: Exception, reason: FailureReason, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Failing:
        @staticmethod
        def from_pretrained(*arguments: Any, **options: Any) -> Any:
            raise error

    monkeypatch.setattr(networks, "AutoModelForCausalLM", Failing)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is the question
        networks.load_network(tmp_path)
    told = failure_of(raised.value)
    assert told.reason == reason
    assert "\n" not in told.message
