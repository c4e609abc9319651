"""A user's PromQL, confined to one namespace.

Every selector gets `namespace="..."` beside its own matchers, which Prometheus takes all together, so
that one's own `namespace=` widens nothing. What this reader does not understand it refuses: a
selector that it took for something else would be one without bounds. Whether the rest is good
PromQL is for Prometheus to say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
      |(?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)?|\.\d+)
      |(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
      |(?P<range>\[[0-9a-z:.\s]*\])
      |(?P<operator>==|!=|>=|<=|=~|!~|[-+*/%^<>=@])
      |(?P<mark>[(){},])""",
    re.VERBOSE,
)
_AGGREGATIONS: Final = frozenset(
    {"avg", "bottomk", "count", "count_values", "group", "limit_ratio", "limitk", "max", "min"}
    | {"quantile", "stddev", "stdvar", "sum", "topk"}
)
_BETWEEN: Final = frozenset({"and", "or", "unless", "atan2"})
_GROUPING: Final = frozenset({"by", "without"})
_MATCHING: Final = frozenset({"on", "ignoring", "group_left", "group_right"})
_NUMBERS: Final = frozenset({"inf", "nan"})
_MATCHERS: Final = frozenset({"=", "!=", "=~", "!~"})


class Unreadable(ValueError):
    """The expression cannot be confined."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def confined(query: str, namespace: str) -> str:
    """The same expression over this namespace's series alone; raises Unreadable."""
    return "".join(_Reader(list(_tokens(query)), namespace).read())


def _tokens(query: str) -> Iterator[_Token]:
    place = 0
    while place < len(query):
        found = _TOKEN.match(query, place)
        if found is None:
            raise Unreadable(f"{query[place : place + 20]!r} cannot be read")
        place = found.end()
        if found.lastgroup != "space":
            yield _Token(str(found.lastgroup), found.group())


class _Reader:
    """Reads left to right; `wants` says whether an operand may stand here."""

    def __init__(self, tokens: list[_Token], namespace: str) -> None:
        self._tokens = tokens
        self._bound = f'namespace="{namespace}"'
        self._place = 0
        self._wants = True
        self._after_operator = False

    def read(self) -> Iterator[str]:
        while (token := self._next()) is not None:
            yield from self._one(token)
            yield " "

    def _one(self, token: _Token) -> Iterator[str]:
        after_operator, self._after_operator = self._after_operator, False
        if token.kind == "word":
            yield from self._word(token.text, after_operator)
        elif token.text == "{":
            self._wants = False
            yield from self._matchers()
        elif token.kind == "operator" or token.text in {"(", ","}:
            self._wants = True
            self._after_operator = token.kind == "operator"
            yield token.text
        elif token.text == "}":
            raise Unreadable("a } has no {")
        else:
            self._wants = False
            yield token.text

    def _word(self, word: str, after_operator: bool) -> Iterator[str]:
        small = word.lower()
        if not self._wants:
            yield from self._between(small)
        elif after_operator and (small == "bool" or small in _MATCHING):
            self._after_operator = True
            yield small
            if small != "bool" and self._is_next("("):
                yield from self._labels()
        elif self._is_next("(") or small in _NUMBERS:
            self._wants = small not in _NUMBERS
            yield word
        elif small in _AGGREGATIONS and self._peek().lower() in _GROUPING:
            yield f"{small} {self._take().lower()} "
            yield from self._labels()
        else:
            self._wants = False
            yield word
            yield from self._matchers() if self._took("{") else [f"{{{self._bound}}}"]

    def _between(self, word: str) -> Iterator[str]:
        """A word after an operand."""
        yield word
        if word in _GROUPING:
            yield from self._labels()
        elif word in _BETWEEN or word == "offset":
            self._wants = True
            self._after_operator = word in _BETWEEN
        else:
            raise Unreadable(f"{word} cannot stand where it does")

    def _matchers(self) -> Iterator[str]:
        """What follows a {, with our own matcher before it; strictly, since all depends on it."""
        yield f"{{{self._bound}"
        while not self._took("}"):
            label = self._next()
            if label is None or label.kind not in {"word", "string"}:
                raise Unreadable("a selector has something else than matchers in it")
            yield f",{label.text}"
            if self._peek() in _MATCHERS:
                operator, value = self._take(), self._next()
                if value is None or value.kind != "string":
                    raise Unreadable(f"{label.text}{operator} needs a string")
                yield f"{operator}{value.text}"
            elif label.kind != "string":
                raise Unreadable(f"{label.text} in a selector needs =, !=, =~ or !~")
            if not self._took(",") and not self._is_next("}"):
                raise Unreadable("matchers are separated by commas")
        yield "}"

    def _labels(self) -> Iterator[str]:
        """A list of labels in parentheses."""
        if not self._took("("):
            raise Unreadable("a list of labels in parentheses is missing")
        yield "("
        while not self._took(")"):
            token = self._next()
            if token is None or (token.kind not in {"word", "string"} and token.text != ","):
                raise Unreadable("a list of labels has something else in it")
            yield token.text
        yield ")"

    def _next(self) -> _Token | None:
        if self._place >= len(self._tokens):
            return None
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self) -> str:
        token = self._next()
        return "" if token is None else token.text

    def _peek(self) -> str:
        return self._tokens[self._place].text if self._place < len(self._tokens) else ""

    def _is_next(self, text: str) -> bool:
        return self._peek() == text

    def _took(self, text: str) -> bool:
        if not self._is_next(text):
            return False
        self._place += 1
        return True
