"""Which changes of a CRD would break objects that are stored, or clients of an earlier release.

Two manifests in, findings out; no files here. Whatever refuses or loses what was accepted counts.
The API server forgives what an update leaves as it was (validation ratcheting), but it refuses the
same manifest where it is created anew: in another cluster, from a backup, by a Git sync. A new or
changed rule is therefore a break, whatever it says.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from generation.schema import Schema
from trimtab_api.model import VALIDATIONS

_Found = Iterator[tuple[str, str]]

_LIST_KEYWORDS: Final = ("x-kubernetes-list-type", "x-kubernetes-list-map-keys")
# Keyword, the direction in which it becomes stricter, and the flag that excludes the bound itself.
_BOUNDS: Final = (
    ("minimum", 1, "exclusiveMinimum"),
    ("maximum", -1, "exclusiveMaximum"),
    ("minLength", 1, ""),
    ("maxLength", -1, ""),
    ("minItems", 1, ""),
    ("maxItems", -1, ""),
    ("minProperties", 1, ""),
    ("maxProperties", -1, ""),
)
_KNOWN: Final = frozenset(
    {"additionalProperties", "default", "description", "enum", "format", "items", "pattern"}
    | {"properties", "required", "type", VALIDATIONS, *_LIST_KEYWORDS}
    | {word for keyword, _, flag in _BOUNDS for word in (keyword, flag)}
)
_FIELDS: Final = re.compile(r"\b(?:self|oldSelf)\.(\w+)")
_WHOLE: Final = re.compile(r"\b(?:self|oldSelf)\b(?!\.)")


@dataclass(frozen=True)
class Break:
    """One change that somebody would suffer from: where, what, and what to do instead."""

    place: str
    change: str
    remedy: str

    @property
    def name(self) -> str:
        """Where and what: the same in every run, so that the change can be allowed."""
        return f"{self.place}: {self.change}"

    def __str__(self) -> str:
        return f"{self.name}; {self.remedy}"


def breaks(released: Mapping[str, Schema], current: Mapping[str, Schema]) -> list[Break]:
    """What the current CRDs break of the released ones; both by the CRD's name."""
    found: list[Break] = []
    for name, old in released.items():
        if name not in current:
            found.append(Break(name, "the kind is gone", "keep it: its objects would be lost"))
        else:
            found += _of_kind(old["spec"], current[name]["spec"])
    return found


def _of_kind(old: Schema, new: Schema) -> Iterator[Break]:
    kind = old["names"]["kind"]
    yield from (Break(kind, *f) for f in _names_changed(old, new))
    versions = {version["name"]: version for version in new["versions"]}
    for version in old["versions"]:
        place = f"{kind} {version['name']}"
        there = versions.get(version["name"])
        if there is None:
            yield Break(place, "the version is gone", "keep it: objects are stored in it")
            continue
        yield from (Break(place, *f) for f in _version_changed(version, there))
        before, after = (v["schema"]["openAPIV3Schema"] for v in (version, there))
        yield from _of_node(before, after, place, "")


def _names_changed(old: Schema, new: Schema) -> _Found:
    remedy = "keep it: another name or scope is another kind"
    if old["scope"] != new["scope"]:
        yield f"scope is {new['scope']} and was {old['scope']}", remedy
    if old["group"] != new["group"]:
        yield f"group is {new['group']} and was {old['group']}", remedy
    for word in ("kind", "listKind", "plural", "singular"):
        if old["names"].get(word) != new["names"].get(word):
            yield f"{word} is {new['names'].get(word)} and was {old['names'].get(word)}", remedy
    for word in ("shortNames", "categories"):
        for name in _missing(old["names"].get(word, ()), new["names"].get(word, ())):
            yield f"{name} of {word} is gone", "keep it: people and scripts type it"


def _version_changed(old: Schema, new: Schema) -> _Found:
    if old["served"] and not new["served"]:
        yield "it is no longer served", "serve it: clients ask for it"
    if old["storage"] and not new["storage"]:
        yield "it is no longer the stored version", "store it, until all objects were written anew"
    for name, there in old.get("subresources", {}).items():
        if name not in new.get("subresources", {}):
            yield f"subresource {name} is gone", "keep it: clients write through it"
        elif there != new["subresources"][name]:
            yield f"subresource {name} reads other fields", "keep its paths"
    paths = [[f["jsonPath"] for f in v.get("selectableFields", ())] for v in (old, new)]
    for path in _missing(*paths):
        yield f"{path} is no longer selectable", "keep it: clients select by it"


def _of_node(old: Schema, new: Schema, place: str, path: str) -> Iterator[Break]:
    """This node of the schema, and all below it that the release knows."""
    here = f"{place} {path.lstrip('.')}".strip()
    yield from (Break(here, *f) for check in _CHECKS for f in check(old, new))
    if old.get("type") != new.get("type"):
        return  # what is below cannot be compared
    there = new.get("properties", {})
    for name, child in old.get("properties", {}).items():
        if name in there:
            yield from _of_node(child, there[name], place, f"{path}.{name}")
        else:
            where = f"{place} {path}.{name}".replace(" .", " ")
            yield Break(where, "the field is gone", "keep it: what is stored in it would be lost")
    for word, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(old.get(word), dict):
            if isinstance(new.get(word), dict):
                yield from _of_node(old[word], new[word], place, path + mark)
            else:
                yield Break(here, f"{word} is gone", "keep it: what is stored would be lost")


# --- what may be wrong with one node --------------------------------------------------------------


def type_changed(old: Schema, new: Schema) -> _Found:
    if old.get("type") != new.get("type"):
        change = f"type is {new.get('type')} and was {old.get('type')}"
        yield change, "add a field of another name instead"


def field_demanded(old: Schema, new: Schema) -> _Found:
    for name in _missing(new.get("required", ()), old.get("required", ())):
        if "default" not in new["properties"][name]:
            change = f"{name} is required and has no default"
            yield change, "give it a default, or make it optional"


def value_refused(old: Schema, new: Schema) -> _Found:
    if "enum" not in new:
        return
    if "enum" not in old:
        yield f"only {_listed(new['enum'])} are accepted", "accept what was accepted"
        return
    for value in _missing(old["enum"], new["enum"]):
        yield f"{value} is no longer accepted", "keep it, and say in its description what to use"


def bound_tightened(old: Schema, new: Schema) -> _Found:
    for word, direction, flag in _BOUNDS:
        if word not in new:
            continue
        edges = [(direction * s[word], bool(s.get(flag))) for s in (new, old) if word in s]
        if len(edges) < 2 or edges[0] > edges[1]:
            yield (
                f"{word} is {_edge(new, word, flag)} and was {_edge(old, word, flag)}",
                ("widen it: what is stored may lie beyond"),
            )


def form_changed(old: Schema, new: Schema) -> _Found:
    for word in ("pattern", "format"):
        if word in new and new[word] != old.get(word):
            change = f"{word} is {new[word]} and was {old.get(word, 'free')}"
            yield change, "keep it; if it accepts all that was accepted, allow the change"


def default_changed(old: Schema, new: Schema) -> _Found:
    was, now = (_within(a.get("default"), b) for a, b in ((old, new), (new, old)))
    if was != now:
        yield (
            f"default is {_said(now)} and was {_said(was)}",
            ("keep it: it is what objects mean that leave the field out"),
        )


def list_merged_otherwise(old: Schema, new: Schema) -> _Found:
    for word in _LIST_KEYWORDS:
        if old.get(word) != new.get(word):
            change = f"{word} is {_said(new.get(word))} and was {_said(old.get(word))}"
            yield change, "keep it: owners of single entries rely on it"


def rule_added(old: Schema, new: Schema) -> _Found:
    known = {rule["rule"] for rule in old.get(VALIDATIONS, ())}
    fresh = set(_missing(new.get("properties", ()), old.get("properties", ())))
    for rule in new.get(VALIDATIONS, ()):
        if rule["rule"] not in known and not _only_fixes(rule["rule"], fresh):
            yield (
                f"there is a new rule: {rule['rule']}",
                ("drop it, or allow the change with the reason why every stored object meets it"),
            )


def keyword_unknown(old: Schema, new: Schema) -> _Found:
    for word in sorted((old.keys() | new.keys()) - _KNOWN):
        if old.get(word) != new.get(word):
            change = f"{word} is {_said(new.get(word))} and was {_said(old.get(word))}"
            yield change, "teach crds/generation/compatibility.py what that means"


_CHECKS: Final = (
    type_changed,
    field_demanded,
    value_refused,
    bound_tightened,
    form_changed,
    default_changed,
    list_merged_otherwise,
    rule_added,
    keyword_unknown,
)


def _missing(values: Collection[Any], among: Collection[Any]) -> list[Any]:
    return [value for value in values if value not in among]


def _only_fixes(rule: str, fresh: set[str]) -> bool:
    """Whether it only says that fields which are new may not be changed: no stored object has them."""
    fields = set(_FIELDS.findall(rule))
    return "oldSelf" in rule and fields <= fresh and not _WHOLE.search(rule)


def _within(default: Any, other: Schema) -> Any:  # noqa: ANN401 - a JSON value
    """A default without the fields that the other schema does not know: those are seen by themselves."""
    known = other.get("properties")
    if not isinstance(default, dict) or known is None:
        return default
    return {n: _within(value, known[n]) for n, value in default.items() if n in known}


def _edge(schema: Schema, word: str, flag: str) -> str:
    if word not in schema:
        return "free"
    return f"{schema[word]}{' exclusive' if schema.get(flag) else ''}"


def _said(value: object) -> str:
    return "none" if value is None else str(value)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
