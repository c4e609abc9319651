"""Texts in the one form that all later steps see. Pure; doing it twice changes nothing.

Unicode is composed (NFC), lines end with one line feed and carry no blanks behind them, and
characters that no reader sees (NUL, controls, byte order marks) are gone. What stands at the
beginning of a line stays: in code it has a meaning.
"""

import re
import unicodedata

_LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufff9-\ufffb]")
_TRAILING = re.compile(r"[^\S\n]+(?=\n)")


def normalised(text: str) -> str:
    text = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text))
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return _TRAILING.sub("", text).rstrip().lstrip("\n")
