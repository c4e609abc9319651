"""How a record becomes tokens: the one form that training, evaluation and serving share.

A model is asked in the form in which it was taught, so nothing else may build prompts. With a chat
template the tokens equal what the engine makes of /v1/chat/completions, without one what it makes
of /v1/completions. Pure: no file, no network, no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# What torch's cross entropy leaves out.
IGNORED = -100

Record = Mapping[str, Any]
Message = Mapping[str, Any]


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that prompts need."""

    chat_template: str | None
    eos_token_id: int | None
    eos_token: str | None

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, Any]:
        """Token ids of a text under `input_ids`."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""
        ...

    def apply_chat_template(
        self, conversation: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The conversation as text."""
        ...


@dataclass(frozen=True)
class Piece:
    """A stretch of text; only the tokens of counted ones are learnt and scored."""

    text: str
    is_counted: bool


def render_prompt(tokenizer: Tokenizer, record: Record) -> list[int]:
    """The tokens after which the model has to answer; for plain text, all of it."""
    if "text" in record:
        return _opening(tokenizer, str(record["text"]))
    question = messages_of(record)[:-1]
    if _has_template(tokenizer):
        return _ids(tokenizer, _templated(tokenizer, question, is_question=True))
    return _opening(tokenizer, _plain_question(record, question))


def render_example(
    tokenizer: Tokenizer, record: Record, max_length: int
) -> tuple[list[int], list[int]]:
    """Tokens and labels of a whole record, cut to `max_length`.

    Labels are the tokens themselves where they count and `IGNORED` elsewhere. A record whose
    answer lies beyond the cut has no label left: see `has_answer`.
    """
    if "text" in record:
        ids = _with_end(tokenizer, _opening(tokenizer, str(record["text"])))
        return ids[:max_length], ids[:max_length]
    if _has_template(tokenizer):
        ids, labels = _tokens_of(tokenizer, _conversation(tokenizer, messages_of(record)))
    else:
        ids = render_prompt(tokenizer, record)
        labels = [IGNORED] * len(ids)
        answer = _ids(tokenizer, answer_of(record))
        ids, labels = ids + answer, labels + answer
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in _last_counted(labels):
        # Without an end the model would never learn to stop.
        ids, labels = [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
    return ids[:max_length], labels[:max_length]


def has_answer(labels: Sequence[int]) -> bool:
    """Whether anything is left to learn; the first token is predicted by nothing."""
    return any(label != IGNORED for label in labels[1:])


def messages_of(record: Record) -> list[Message]:
    """The record as a conversation that ends with the answer."""
    if "messages" in record:
        return list(record["messages"])
    return [
        {"role": "user", "content": str(record["prompt"])},
        {"role": "assistant", "content": str(record["completion"])},
    ]


def question_of(record: Record) -> str:
    """The prompt as people read it."""
    if "text" in record:
        return str(record["text"])
    if "prompt" in record:
        return str(record["prompt"])
    return "\n".join(f"{m['role']}: {m['content']}" for m in messages_of(record)[:-1])


def answer_of(record: Record) -> str:
    """The answer that the data holds; plain text has none."""
    return "" if "text" in record else str(messages_of(record)[-1]["content"])


def _has_template(tokenizer: Tokenizer) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _opening(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text at the start of a sequence, as the engine makes them; never with an end."""
    ids = list(tokenizer(text)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def _with_end(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    return ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]


def _plain_question(record: Record, question: Sequence[Message]) -> str:
    """An instruction is sent as it is; a conversation becomes a script with one line per turn."""
    if "prompt" in record:
        return str(record["prompt"])
    lines = [f"{str(m['role']).capitalize()}: {m['content']}" for m in question]
    return "\n".join([*lines, "Assistant:"])


def _templated(tokenizer: Tokenizer, messages: Sequence[Message], *, is_question: bool) -> str:
    return tokenizer.apply_chat_template(
        [dict(message) for message in messages], tokenize=False, add_generation_prompt=is_question
    )


def _conversation(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Piece]:
    """The template's text, cut where answers begin and end.

    Earlier answers count only where the template grows by appending; some templates rewrite
    earlier turns. The last answer always counts.
    """
    whole = _templated(tokenizer, messages, is_question=False)
    last = len(messages) - 1
    question = _templated(tokenizer, messages[:last], is_question=True)
    if not whole.startswith(question):
        end = tokenizer.eos_token or ""
        return [Piece(question, False), Piece(f"{messages[last]['content']}{end}", True)]
    pieces: list[Piece] = []
    done = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _templated(tokenizer, messages[:index], is_question=True)
        after = _templated(tokenizer, messages[: index + 1], is_question=False)
        if whole.startswith(after) and after.startswith(before) and len(before) >= done:
            pieces += [Piece(whole[done : len(before)], False), Piece(after[len(before) :], True)]
            done = len(after)
    return [*pieces, Piece(whole[done:], False)]


def _tokens_of(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
    """Tokens of consecutive pieces, such that no token reaches across a boundary.

    Text before an answer is tokenized exactly as it is when the model is asked.
    """
    ids: list[int] = []
    labels: list[int] = []
    text = ""
    for piece in pieces:
        if not piece.text:
            continue
        text += piece.text
        joined = _ids(tokenizer, text)
        is_extension = joined[: len(ids)] == ids
        new = joined[len(ids) :] if is_extension else _ids(tokenizer, piece.text)
        ids += new
        labels += new if piece.is_counted else [IGNORED] * len(new)
    return ids, labels


def _last_counted(labels: Sequence[int]) -> list[int]:
    """The last unbroken run of counted labels."""
    end = len(labels)
    while end and labels[end - 1] == IGNORED:
        end -= 1
    start = end
    while start and labels[start - 1] != IGNORED:
        start -= 1
    return list(labels[start:end])
