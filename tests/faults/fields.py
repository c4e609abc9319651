"""What can be done to each field of a spec, from nothing but the CRD's schema.

Boundary values, values just beyond them, other types, absence, the other members of a union, and
references: to what is there, to what is of the wrong kind, to nothing. No value here is drawn:
the same schema gives the same edits in the same order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

Path = tuple[str, ...]
Schema = Mapping[str, Any]

LARGEST: Final = 2**63 - 1  # of an int64 whose schema names no maximum
# Texts that a pattern allows, the awkward ones among them. A pattern that is not here gets none.
EXAMPLES: Final[Mapping[str, Sequence[str]]] = {
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": ("a", "0-1"),
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": ("a", "a.b-c"),
    r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$": (
        *("0", "1", "0.5", "500m", "0.0001", "0.00000000001", "1.5Gi", "1024Mi", "1024Ti"),
        *("1000T", "1000000000000000", "99999999999999Ti"),
    ),
    r"^[a-z]{2}$": ("en",),
    r"^[A-Z][A-Z0-9_]*$": ("EMAIL_ADDRESS",),
    r"^[-._a-zA-Z0-9]+$": ("words.txt", "a_b"),
    r"^[A-Za-z_][A-Za-z0-9_]*$": ("A", "HTTPS_PROXY", "_0"),
    r"^oci://[^@\s]+@sha256:[0-9a-f]{64}$": (f"oci://127.0.0.1:9/a@sha256:{'0' * 64}",),
}
_ANY: Final = "[]"  # any item of a list, as a part of its path
_NO_PATTERN_ALLOWS: Final = "! ä"
_UNION: Final = re.compile(r"^(\[has\(self\.|has\(self\.\w+\) != has)")
_MEMBER: Final = re.compile(r"has\(self\.(\w+)\)")


@dataclass(frozen=True)
class Edit:
    """One field gets a value, or goes."""

    at: Path
    value: Any = None
    is_gone: bool = False


@dataclass(frozen=True)
class Candidate:
    """Edits that are one change. `is_nonsense`: the schema itself forbids it, whatever else is there."""

    edits: tuple[Edit, ...]
    is_nonsense: bool = False


@dataclass(frozen=True)
class Hints:
    """What no schema says.

    `known` has values that mean something where they are used; `affordable` has the largest values
    for fields whose maximum would start more pods than one machine holds. Keys are ends of paths.
    """

    known: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    affordable: Mapping[str, int] = field(default_factory=dict)

    def of(self, path: Path) -> Sequence[Any]:
        """Known values of a field."""
        return next((v for end, v in self.known.items() if _ends(path, end)), ())

    def limit(self, path: Path, maximum: int) -> int:
        """The largest value that is tried."""
        found = (v for end, v in self.affordable.items() if _ends(path, end))
        return min(next(found, maximum), maximum)


def candidates(schema: Schema, hints: Hints, path: Path = ()) -> Iterator[Candidate]:
    """Everything that is tried on this field and on those below it."""
    for value, is_nonsense in _values(schema, hints, path):
        yield Candidate((Edit(path, value),), is_nonsense)
    required = schema.get("required", [])
    for name, below in schema.get("properties", {}).items():
        here = (*path, name)
        is_needed = name in required and "default" not in below
        yield Candidate((Edit(here, is_gone=True),), is_needed and not path)
        yield from candidates(below, hints, here)
    yield from _switched(schema, hints, path)


def minimal(schema: Schema, hints: Hints, path: Path) -> Any:
    """The least that the schema asks for; rules between fields may ask for more."""
    known = hints.of(path)
    if known:
        return known[0]
    match schema.get("type"):
        case "object":
            needed = schema.get("required", [])
            below = schema.get("properties", {})
            return {n: minimal(below[n], hints, (*path, n)) for n in needed}
        case "array":
            return [_item(schema, hints, path)] * schema.get("minItems", 0)
        case "boolean":
            return False
        case "integer" | "number":
            return schema.get("minimum", 1)
        case _:
            return next(iter(_texts(schema)), "a")


def _values(schema: Schema, hints: Hints, path: Path) -> Iterator[tuple[Any, bool]]:
    """Values and whether the schema forbids them."""
    if not path:
        return
    good, bad = _by_type(schema, hints, path)
    for value in (*hints.of(path), *good):
        yield value, False
    for value in bad:
        yield value, True


def _by_type(schema: Schema, hints: Hints, path: Path) -> tuple[Sequence[Any], Sequence[Any]]:
    match schema["type"]:
        case "object":
            return _objects(schema, hints, path)
        case "array":
            return _arrays(schema, hints, path)
        case "boolean":
            return [True, False], ["yes", 1]
        case "string":
            return _texts(schema), _bad_texts(schema)
        case _:
            return _numbers(schema, hints, path)


def _texts(schema: Schema) -> list[str]:
    if "enum" in schema:
        return list(schema["enum"])
    pattern, longest = schema.get("pattern"), schema.get("maxLength", 64)
    if pattern is None:
        return ["a", "a" * longest, "ä {0} \\ $(HOME) '\""[:longest]]
    found = [text for text in EXAMPLES.get(pattern, ()) if len(text) <= longest]
    fills = re.fullmatch(pattern, "a" * longest)
    return [*found, "a" * longest] if fills else found


def _bad_texts(schema: Schema) -> list[Any]:
    bad: list[Any] = [7, ["a"], {"a": "b"}]
    if "enum" in schema:
        return [*bad, "Nonsense", ""]
    if "maxLength" in schema:
        bad.append("a" * (schema["maxLength"] + 1))
    if "pattern" in schema:
        bad.append(_NO_PATTERN_ALLOWS)
    if schema.get("minLength"):
        bad.append("")
    return bad


def _numbers(schema: Schema, hints: Hints, path: Path) -> tuple[list[Any], list[Any]]:
    is_whole = schema["type"] == "integer"
    step = 1 if is_whole else 1e-3
    good: list[Any] = []
    bad: list[Any] = ["many", True, *([1.5] if is_whole else [])]
    for end, sign in (("minimum", 1), ("maximum", -1)):
        if end not in schema:
            continue
        edge = schema[end]
        is_open = schema.get(f"exclusive{end.capitalize()}", False)
        bad.append(edge if is_open else edge - sign * step)
        good += [edge + sign * step] if is_open else [edge, edge + sign * step]
    if "maximum" not in schema:
        good += [2**31 - 1, LARGEST] if is_whole else [1e300]
    if "minimum" not in schema:
        good.append(-1)
    return [min(n, hints.limit(path, n)) for n in good], bad


def _objects(schema: Schema, hints: Hints, path: Path) -> tuple[list[Any], list[Any]]:
    bad: list[Any] = ["text", [1]]
    if "additionalProperties" not in schema:
        return [{}, None, minimal(schema, hints, path)], bad
    below = schema["additionalProperties"]
    good = [{}, None, *({"a": text} for text in _texts(below)), {"a/b/c": "d"}, {"é": ""}]
    crowd = {f"k{n}": "" for n in range(schema.get("maxProperties", 64) + 1)}
    return good, [*bad, *({"a": text} for text in _bad_texts(below)), crowd]


def _arrays(schema: Schema, hints: Hints, path: Path) -> tuple[list[Any], list[Any]]:
    least = _item(schema, hints, path)
    few = schema.get("minItems", 0)
    good = [None, [least], *([] if few else [[]])]
    bad = ["text", {"a": 1}, [7], *([[]] if few else [])]
    if schema.get("x-kubernetes-list-type") == "map":
        bad.append([least, least])
    elif "maxItems" in schema:
        bad.append([least] * (schema["maxItems"] + 1))
    here = (*path, _ANY)
    below = candidates(schema["items"], hints, here)
    for edited in chain(below, _tops(schema["items"], here)):
        (good, bad)[edited.is_nonsense].append([_with(least, edited, len(here))])
    return good, bad


def _tops(schema: Schema, path: Path) -> Iterator[Candidate]:
    """Items that lack what an item needs."""
    for name in schema.get("required", []):
        if "default" not in schema["properties"][name]:
            yield Candidate((Edit((*path, name), is_gone=True),), is_nonsense=True)


def _item(schema: Schema, hints: Hints, path: Path) -> Any:
    known = hints.of(path)
    return known[0][0] if known and known[0] else minimal(schema["items"], hints, (*path, _ANY))


def _with(item: Any, edited: Candidate, depth: int) -> Any:
    for edit in edited.edits:
        inner = Edit(edit.at[depth:], edit.value, edit.is_gone)
        item = inner.value if not inner.at else applied(item, inner)
    return item


def applied(spec: Any, edit: Edit) -> Any:
    """The spec after the edit; parents that are missing come with it."""
    name, *rest = edit.at
    before = spec if isinstance(spec, dict) else {}
    if rest:
        inner = applied(before.get(name), Edit(tuple(rest), edit.value, edit.is_gone))
        # A parent that would come into being only to lack something stays away.
        return before if edit.is_gone and name not in before else {**before, name: inner}
    if edit.is_gone:
        return {key: value for key, value in before.items() if key != name}
    return {**before, name: edit.value}


def _switched(schema: Schema, hints: Hints, path: Path) -> Iterator[Candidate]:
    """Each member of a union alone, next to the others, and none of them."""
    for rule in schema.get("x-kubernetes-validations", []):
        if not _UNION.match(rule["rule"]):
            continue
        members = _MEMBER.findall(rule["rule"])
        for member in members:
            here = (*path, member)
            value = minimal(schema["properties"][member], hints, here)
            others = (Edit((*path, m), is_gone=True) for m in members if m != member)
            yield Candidate((*others, Edit(here, value)))
        yield Candidate(tuple(Edit((*path, m), is_gone=True) for m in members))


def _ends(path: Path, end: str) -> bool:
    return ".".join(path).endswith(end)
