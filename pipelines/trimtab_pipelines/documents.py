"""Documents cut into texts: HTML as its readers see it, and plain text.

A text ends at the end of a paragraph where one is near, else of a sentence, else of a word, and
repeats the last tokens of the one before it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import Documents
from trimtab_pipelines.preparation.words import token_ends
from trimtab_pipelines.runtime import RunError

# What is no text, or stands on every page of a site.
_LEFT_OUT = "script, style, noscript, template, svg, iframe, object, head, nav, header, footer, aside, form, button"
_BLOCKS = (
    "address, article, blockquote, br, dd, div, dl, dt, fieldset, figcaption, figure, h1, h2, h3, h4, h5, h6, hr, li, "
    "main, ol, p, pre, section, table, tr, ul"
)
_CELLS = "td, th"
# Private characters stand for what must survive when blanks are joined.
_BREAK, _KEPT_LINE, _KEPT_BLANK = "\ue000", "\ue001", "\ue002"
_PREFORMATTED = str.maketrans({"\n": _KEPT_LINE, " ": _KEPT_BLANK, "\t": _KEPT_BLANK * 4})
_CHARSET = re.compile(
    rb"<meta[^>]{0,200}charset\s{0,8}=\s{0,8}[\"']?\s{0,8}([\w.:-]{1,40})", re.IGNORECASE
)
_CHARSET_WITHIN = 4096

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile("[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\\]]*\\s")


def html_text(data: bytes, name: str) -> str:
    """What a reader sees of a page, without menus, headers and footers."""
    tree = LexborHTMLParser(_decoded(data, name))
    root = tree.css_first("main") or tree.body
    if root is None:
        return ""
    for node in root.css(_LEFT_OUT):
        node.decompose()
    for node in root.css("pre"):
        node.replace_with(_BREAK + node.text().translate(_PREFORMATTED) + _BREAK)
    for node in root.css(_BLOCKS):
        node.insert_before(_BREAK)
        node.insert_after(_BREAK)
    for node in root.css(_CELLS):
        node.insert_after(" ")
    joined = re.sub(r"\s+", " ", root.text())
    blocks = (block.strip() for block in joined.split(_BREAK))
    text = "\n\n".join(block for block in blocks if block)
    return text.replace(_KEPT_LINE, "\n").replace(_KEPT_BLANK, " ")


def _decoded(data: bytes, name: str) -> str:
    """By byte order mark, else by what the page says of itself, else UTF-8; nothing is guessed."""
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            said = encoding
            break
    else:
        found = _CHARSET.search(data[:_CHARSET_WITHIN])
        said = found[1].decode() if found else "utf-8"
    try:
        return data.decode(said)
    except (UnicodeDecodeError, LookupError) as error:
        raise RunError(
            FailureReason.DATA_ENCODING,
            f"{name}: the page is not {said}, which is its encoding by what it says or by default; "
            "save it as UTF-8",
        ) from error


@dataclass
class Chunker:
    """Cuts a text that comes in pieces; holds no more than one chunk and one piece."""

    settings: Documents
    _rest: str = ""

    def chunks(self, pieces: Iterable[str]) -> Iterator[str]:
        """The texts, none of them blank."""
        has_new = False
        for piece in pieces:
            self._rest += piece
            has_new = has_new or bool(piece.strip())
            # Twice the size, so that the end of a chunk is chosen with what follows in sight.
            while len(ends := token_ends(self._rest)) > 2 * self.settings.tokens:
                yield from self._cut(ends)
        while len(ends := token_ends(self._rest)) > self.settings.tokens:
            yield from self._cut(ends)
        if has_new and self._rest.strip():
            yield self._rest.strip()
        self._rest = ""

    def _cut(self, ends: list[int]) -> Iterator[str]:
        limit = ends[self.settings.tokens - 1]
        end = _good_end(self._rest, ends[self.settings.tokens // 2], limit)
        chunk = self._rest[:end].strip()
        if chunk:
            yield chunk
        taken = sum(1 for place in ends if place <= end)
        overlap = min(self.settings.overlap, taken - 1)
        self._rest = self._rest[ends[taken - overlap - 1] :]


def _good_end(text: str, least: int, most: int) -> int:
    """The last end of a paragraph or sentence between two places, else the latter."""
    for pattern in (_PARAGRAPH, _SENTENCE):
        ends = [match.end() for match in pattern.finditer(text, least, most + 1)]
        if ends:
            return min(ends[-1], most)
    return most
