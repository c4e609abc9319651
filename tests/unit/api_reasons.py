"""Reasons are documented: what the operator says stands in the contract, with its meaning."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.reference import reasons_page
from trimtab_api.reasons import (
    RETRYABLE,
    DecisionReason,
    FailureReason,
    JobReason,
    LoadReason,
    ServiceReason,
    VersionReason,
    is_user_error,
)

OPERATOR = Path(__file__).resolve().parents[2] / "operator" / "trimtab_operator"
KINDS = (FailureReason, JobReason, VersionReason, DecisionReason, ServiceReason, LoadReason)
DOCUMENTED = {str(reason) for kind in KINDS for reason in kind}
# Calls that take a reason, and at which place.
PLACES = {"Finding": 0, "unknown": 0, "Answer": 1, "waiting": 1}


def said(tree: ast.AST) -> Iterator[str]:
    """Reasons that are written as literals in calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            is_method = isinstance(function, ast.Attribute)
            place = PLACES.get(getattr(function, "attr" if is_method else "id", ""))
            if place is not None and len(node.args) > place:
                yield from text(node.args[place])


def text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def relative(path: Path) -> str:
    return str(path.relative_to(OPERATOR))


@pytest.mark.parametrize("path", sorted(OPERATOR.rglob("*.py")), ids=relative)
def test_what_the_operator_says_is_documented(path: Path) -> None:
    assert set(said(ast.parse(path.read_text()))) - DOCUMENTED == set()


def test_every_reason_is_on_the_page() -> None:
    page = reasons_page()
    assert [reason for reason in DOCUMENTED if f"| `{reason}` |" not in page] == []


@pytest.mark.parametrize("reason", FailureReason)
def test_only_trouble_outside_is_tried_again(reason: FailureReason) -> None:
    assert is_user_error(reason) is (reason not in RETRYABLE)
