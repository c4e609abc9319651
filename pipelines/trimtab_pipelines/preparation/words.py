"""Words of a text, for comparing and counting: the same everywhere, without a tokenizer of a model.

Scripts that put no blanks between words (Chinese, Japanese, Thai and their neighbours) count by the
character.
"""

import re
import unicodedata
from functools import cache

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f"
)
_WORD = re.compile(f"[^\\W{_UNSPACED}]+|[{_UNSPACED}]")
# A token of documents.tokens: a word, or a mark that is neither word nor blank.
_TOKEN = re.compile(f"[^\\W{_UNSPACED}]+|[{_UNSPACED}]|[^\\w\\s]")


# For ASCII the same as the pattern, many times as fast.
_BLANKED = {n: " " for n in range(128) if not (chr(n).isalnum() or chr(n) == "_")}


@cache
def _marked_word() -> re.Pattern[str]:
    """A word where vowels are marks, as in Hindi or Arabic: a letter alone would end before them."""
    points = (chr(n) for n in range(0x300, 0x20000))
    marks = "".join(c for c in points if unicodedata.category(c)[0] == "M")
    letters = f"[^\\W{_UNSPACED}]"
    return re.compile(f"{letters}+(?:[{marks}]+{letters}*)*|[{_UNSPACED}][{marks}]*")


def words(text: str) -> list[str]:
    """The words in small letters."""
    if text.isascii():
        return text.lower().translate(_BLANKED).split()
    return _WORD.findall(text.casefold())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words begin and end, with the marks that stand on their letters."""
    if text.isascii():
        return [match.span() for match in _WORD.finditer(text)]
    return [match.span() for match in _marked_word().finditer(text)]


def token_ends(text: str) -> list[int]:
    """Where each token ends."""
    return [match.end() for match in _TOKEN.finditer(text)]


def token_count(text: str) -> int:
    return sum(1 for _ in _TOKEN.finditer(text))
