"""Reasons are documented: what the operator says stands in the contract, with its meaning."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.reference import reasons_page
from trimtab_api.reasons import RETRYABLE, ConditionReason, FailureReason, is_user_error

OPERATOR = Path(__file__).resolve().parents[2] / "operator" / "trimtab_operator"
# Calls that take a reason, and at which place.
PLACES = {"Finding": 0, "unknown": 0, "Answer": 1, "waiting": 1}
DOCUMENTED = {str(reason) for reason in (*FailureReason, *ConditionReason)}


def said(tree: ast.AST) -> Iterator[str]:
    """Reasons that are written as literals in calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            place = PLACES.get(called)
            if place is not None and len(node.args) > place:
                argument = node.args[place]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


@pytest.mark.parametrize(
    "path", sorted(OPERATOR.rglob("*.py")), ids=lambda path: str(path.relative_to(OPERATOR))
)
def test_what_the_operator_says_is_documented(path: Path) -> None:
    assert set(said(ast.parse(path.read_text()))) - DOCUMENTED == set()


def test_the_search_finds_reasons() -> None:
    found = {
        reason for path in OPERATOR.rglob("*.py") for reason in said(ast.parse(path.read_text()))
    }
    assert {"Evaluating", "GateFailed", "BaseMissing"} <= found


def test_every_reason_is_on_the_page() -> None:
    page = reasons_page()
    assert [reason for reason in DOCUMENTED if f"| `{reason}` |" not in page] == []


@pytest.mark.parametrize("reason", FailureReason)
def test_only_trouble_outside_is_tried_again(reason: FailureReason) -> None:
    assert is_user_error(reason) is (reason not in RETRYABLE)
