"""Globs over paths with slashes, the same for folders, buckets and repositories.

`*` and `?` stay within one part of a path; `**` as a part of its own stands for any number of parts.
"""

import re
from collections.abc import Iterable

_SPECIAL = re.compile(r"[*?\[]")


def is_glob(path: str) -> bool:
    return bool(_SPECIAL.search(path))


def fixed_prefix(pattern: str) -> str:
    """The folder part before the first special character; all matches begin with it."""
    found = _SPECIAL.search(pattern)
    return pattern if found is None else pattern[: pattern.rfind("/", 0, found.start()) + 1]


def matching(paths: Iterable[str], pattern: str) -> list[str]:
    """The paths that match, sorted; without special characters, the path itself."""
    expression = _expression(pattern) if is_glob(pattern) else re.compile(re.escape(pattern))
    return sorted(path for path in paths if expression.fullmatch(path))


def _expression(pattern: str) -> re.Pattern[str]:
    parts = pattern.split("/")
    result = ""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == "**":
            result += ".*" if is_last else "(?:[^/]+/)*"
        else:
            result += _part(part) + ("" if is_last else "/")
    return re.compile(result, re.DOTALL)


def _part(part: str) -> str:
    result = ""
    position = 0
    while position < len(part):
        char = part[position]
        end = part.find("]", position + 2) if char == "[" else -1
        if char == "*":
            result += "[^/]*"
        elif char == "?":
            result += "[^/]"
        elif end > 0:
            inner = part[position + 1 : end].replace("\\", r"\\")
            negated = inner.startswith("!")
            result += f"[^{inner[1:]}]" if negated else f"[{inner}]"
            position = end
        else:
            result += re.escape(char)
        position += 1
    return result
