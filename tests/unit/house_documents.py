"""What the pages say about files and defaults is so."""

import re
from pathlib import Path

import pytest

from trimtab_api.v1alpha1.finetunejob import EarlyStopping, Hyperparameters, LoraMethod

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("bench/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_linked_from_the_first_one() -> None:
    linked = set(re.findall(r"\]\((docs/[a-z-]+\.md)\)", (TOP / "README.md").read_text()))
    assert linked == {str(page.relative_to(TOP)) for page in TOP.glob("docs/*.md")}


def test_defaults_of_the_training_are_those_of_the_api() -> None:
    text = (TOP / "docs/training.md").read_text()
    table = text.partition("## Hyperparameters")[2].partition("##")[0]
    told = {name: shown.strip("`") for name, shown in re.findall(r"`(\w+)` \| ([^|]+) \|", table)}
    real = {"maxSteps": "none", **Hyperparameters().to_wire()}
    assert told == {name: str(default).replace("False", "false") for name, default in real.items()}
    lora, prose = LoraMethod(), " ".join(text.split())
    assert f"`rank` {lora.rank}, `alpha` {lora.alpha} and `dropout` {lora.dropout}" in prose
    assert f"After `patience` ({EarlyStopping().patience})" in prose
