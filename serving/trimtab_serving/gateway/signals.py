"""What a conversation's opening is like, as buckets of a fixed set. Pure.

The functions are those of the reference profile that the version's evaluation made.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from trimtab_api import features
from trimtab_api.features import TopicModel
from trimtab_serving.gateway.said import Said


class Signal(StrEnum):
    """What is counted of openings; the last one of ratings."""

    PROMPT_LENGTH = "PromptLength"
    COMPLETION_LENGTH = "CompletionLength"
    FINISH_REASONS = "FinishReasons"
    REFUSALS = "Refusals"
    LANGUAGES = "Languages"
    TOPICS = "Topics"
    NEGATIVE_FEEDBACK = "NegativeFeedback"


def prompt_of(content: object) -> str | None:
    """What people said in a prompt or in messages; None where it is no text (token numbers)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    if isinstance(content[0], str):
        return content[0]
    turns = [m for m in content if isinstance(m, Mapping)]
    if not turns:
        return None
    return features.user_text([{**m, "content": _plain(m.get("content"))} for m in turns])


def _plain(content: object) -> str:
    """The text of a message, whose content may come in typed parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))


def buckets_of(
    prompt: str, answer: Said, topics: TopicModel | None
) -> Iterator[tuple[Signal, str]]:
    """One bucket for each signal, found one after the other; no topic where the version has no profile."""
    yield Signal.PROMPT_LENGTH, str(features.length_bucket(len(prompt)))
    yield Signal.COMPLETION_LENGTH, str(features.length_bucket(len(answer.text)))
    yield Signal.FINISH_REASONS, answer.finish
    yield Signal.REFUSALS, "yes" if features.is_refusal(answer.text) else "no"
    yield Signal.LANGUAGES, features.language_of(prompt)
    if topics is not None:
        yield Signal.TOPICS, str(topics.topic_of(prompt))
