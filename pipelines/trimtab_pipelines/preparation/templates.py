"""Parts of a record that several columns make together. Pure."""

import re
from collections.abc import Callable

# A column in braces, a doubled brace, or text.
_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


def columns_in(template: str) -> tuple[str, ...]:
    """The columns that a template names, each once, in their order."""
    return tuple(dict.fromkeys(name for name in _PIECES.findall(template) if name))


def filled(template: str, value_of: Callable[[str], str]) -> str:
    """The template with the values of its columns. What stands in a value stays as it is."""
    return _PIECES.sub(lambda found: value_of(found[1]) if found[1] else found[0][0], template)
