"""Prompts: what is learnt, what is asked, and that both are the same tokens."""

from collections.abc import Mapping
from typing import Any

import pytest

from trimtab_pipelines.prompts import (
    IGNORED,
    answer_of,
    has_answer,
    question_of,
    render_example,
    render_prompt,
)

BEGIN, END = 1, 2
PAIR = {"prompt": "Why?", "completion": "Because."}
TURNS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "Four."},
    ]
}


class Words:
    """A tokenizer with a token per character, and templates that tests choose."""

    eos_token_id: int | None = END
    eos_token: str | None = "\x02"

    def __init__(self, chat_template: str | None = None) -> None:
        self.chat_template = chat_template

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, Any]:
        return {"input_ids": [BEGIN] * add_special_tokens + [ord(char) for char in text]}

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        return "".join(chr(token) for token in token_ids if token > END or not skip_special_tokens)

    def apply_chat_template(
        self, conversation: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        end = "\x02" if self.chat_template == "with end" else ";"
        turns = conversation
        if self.chat_template == "forgets answers":
            turns = [m for m in conversation[:-1] if m["role"] != "assistant"] + conversation[-1:]
        text = "".join(f"[{m['role'][0]}]{m['content']}{end}" for m in turns)
        opening = "[a]<think>" if self.chat_template == "asks otherwise" else "[a]"
        return text + (opening if add_generation_prompt else "")


def counted(ids: list[int], labels: list[int]) -> str:
    """The text that is learnt; a bar where something between is not."""
    text = "".join(chr(i) if label == i else "|" for i, label in zip(ids, labels, strict=True))
    return "|".join(part for part in text.split("|") if part).replace("\x02", "$")


@pytest.mark.parametrize(
    ("template", "record", "expected"),
    [
        pytest.param(None, PAIR, "Because.$", id="a pair without a template"),
        pytest.param("plain", PAIR, "Because.;$", id="a template without an end gets one"),
        pytest.param("with end", PAIR, "Because.$", id="a template with an end keeps its own"),
        pytest.param("with end", TURNS, "Two.$|Four.$", id="all answers of a conversation"),
        pytest.param("forgets answers", TURNS, "Four.;$", id="a template that rewrites earlier turns"),
        pytest.param("asks otherwise", TURNS, "Four.$", id="a template that asks in another form"),
        pytest.param(None, TURNS, "Four.$", id="a conversation without a template"),
    ],
)  # fmt: skip
def test_only_answers_are_learnt(
    template: str | None, record: dict[str, Any], expected: str
) -> None:
    assert counted(*render_example(Words(template), record, 1000)) == expected


@pytest.mark.parametrize(
    "template", [None, "plain", "with end", "forgets answers", "asks otherwise"]
)
@pytest.mark.parametrize("record", [PAIR, TURNS], ids=["a pair", "a conversation"])
def test_a_model_is_asked_as_it_was_taught(template: str | None, record: dict[str, Any]) -> None:
    prompt = render_prompt(Words(template), record)
    ids, labels = render_example(Words(template), record, 1000)
    assert ids[: len(prompt)] == prompt
    assert labels[len(prompt)] != IGNORED
    assert labels[len(prompt) - 1] == IGNORED


def test_text_is_learnt_as_a_whole_and_ends() -> None:
    ids, labels = render_example(Words(), {"text": "abc"}, 1000)
    assert ids == labels == [BEGIN, *map(ord, "abc"), END]
    assert render_example(Words(), {"text": "abc"}, 3)[0] == [BEGIN, ord("a"), ord("b")]


def test_an_answer_beyond_the_cut_is_none() -> None:
    assert not has_answer(render_example(Words(), PAIR, 5)[1])
    assert has_answer(render_example(Words(), PAIR, 6)[1])


def test_a_tokenizer_without_an_end_gets_none() -> None:
    words = Words()
    words.eos_token_id = None
    assert counted(*render_example(words, PAIR, 1000)) == "Because."


def test_records_are_shown_to_people() -> None:
    assert (question_of(PAIR), answer_of(PAIR)) == ("Why?", "Because.")
    assert question_of(TURNS).startswith("system: Be brief.\nuser: One?")
    assert answer_of(TURNS) == "Four."
