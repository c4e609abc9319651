"""Whether an answer stands on the text that it was written from: by its words and numbers. Pure.

No model judges here. An answer that says what the text says uses the text's words; one that was made up
brings words of its own, and numbers that stand nowhere.
"""

import re

from trimtab_pipelines.preparation.words import words

# Shorter words of an alphabet carry grammar; longer ones are compared without their endings.
_SHORTEST_WORD = 4
_STEM = 5
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SHOWN = 3


def ungrounded(question: str, answer: str, text: str, at_least: float) -> str | None:
    """Why the answer cannot be taken from the text; None where it can."""
    given = f"{text}\n{question}"
    strange = sorted(_numbers(answer) - _numbers(given))
    if strange:
        return f"the text has no {', '.join(strange[:_SHOWN])}"
    said = _stems(answer)
    if not said:
        return None
    missing = said - _stems(given)
    share = 1 - len(missing) / len(said)
    if share < at_least:
        return (
            f"{share:.0%} of its words stand in the text, not {', '.join(sorted(missing)[:_SHOWN])}"
        )
    return None


def _numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(_GROUPED.sub("", text)))


def _stems(text: str) -> set[str]:
    """The beginnings of words that mean something; in scripts without blanks, the characters."""
    return {
        word[:_STEM]
        for word in words(text)
        if not word.isdigit() and (len(word) >= _SHORTEST_WORD or not word.isascii())
    }
