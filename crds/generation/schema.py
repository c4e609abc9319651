"""From a pydantic model to the structural schema of a CustomResourceDefinition.

pydantic writes JSON Schema 2020-12; the API server reads an OpenAPI 3.0 dialect without references,
in which every node has one type. Whatever is not known here is refused, so that nothing is lost
silently.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_COPIED = (
    "description",
    "enum",
    "format",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
)
# Known and dropped: titles say nothing, and the API server has no form for key constraints.
_DROPPED = {"title", "propertyNames"}
_TRANSLATED = {
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "properties",
    "required",
    "type",
}
_ORDER = ("description", "type", "format", "default")


class UntranslatableError(Exception):
    """A model says something that a CRD cannot say."""


def structural(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The schema of one model; a status has no defaults, because its writer writes all of it."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _Translation(schema.pop("$defs", {}), defaults=defaults).node(schema, model.__name__)


class _Translation:
    def __init__(self, definitions: Mapping[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def node(self, source: Schema, place: str) -> Schema:
        """One node of the schema and everything below it."""
        source, optional = self._flattened(source, place)
        if unknown := set(source) - _TRANSLATED - _DROPPED - set(_COPIED):
            raise UntranslatableError(f"{place}: {', '.join(sorted(unknown))}")
        if "const" in source:
            source["enum"] = [source.pop("const")]
        if "type" not in source:
            raise UntranslatableError(f"{place}: no single type")
        result: Schema = {"type": source["type"]}
        result |= {key: source[key] for key in _COPIED if key in source}
        result |= _limits(source)
        result |= self._children(source, place)
        result |= self._default(source, optional=optional)
        return _ordered(result)

    def _flattened(self, source: Schema, place: str) -> tuple[Schema, bool]:
        """Without references and without the null of an optional field."""
        source = dict(source)
        optional = False
        if "anyOf" in source:
            branches = [b for b in source.pop("anyOf") if b != {"type": "null"}]
            if len(branches) != 1:
                raise UntranslatableError(f"{place}: a choice between types")
            source, optional = {**branches[0], **source}, True
        if "$ref" in source:
            target = self._definitions[source.pop("$ref").rpartition("/")[2]]
            inner, _ = self._flattened(target, place)
            source = {**inner, **source}
        return source, optional

    def _children(self, source: Schema, place: str) -> Schema:
        kind = source["type"]
        if kind == "array":
            items = self.node(source["items"], f"{place}[]")
            return {
                "items": items,
                "x-kubernetes-list-type": source.get("x-kubernetes-list-type", "atomic"),
            }
        if kind == "object" and "properties" in source:
            properties = {
                name: self.node(child, f"{place}.{name}")
                for name, child in source["properties"].items()
            }
            required = {"required": sorted(source["required"])} if source.get("required") else {}
            return {"properties": properties, **required}
        if kind == "object" and isinstance(source.get("additionalProperties"), dict):
            return {
                "additionalProperties": self.node(source["additionalProperties"], f"{place}{{}}")
            }
        return {}

    def _default(self, source: Schema, *, optional: bool) -> Schema:
        if not self._defaults or source.get("default") is None:
            return {}
        default = _without_empty(source["default"])
        if optional and default == {}:
            return {}
        return {} if default == [] else {"default": default}


def _without_empty(default: Any) -> Any:  # noqa: ANN401 - a JSON value
    """The API server checks rules on a default as it stands: what is inside must be stated too."""
    if not isinstance(default, dict):
        return default
    stated = {name: _without_empty(value) for name, value in default.items() if value is not None}
    return {name: value for name, value in stated.items() if value not in ([], {})}


def _limits(source: Schema) -> Schema:
    result: Schema = {}
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in source:  # a number in JSON Schema 2020-12, a flag here
            result |= {inclusive: source[exclusive], exclusive: True}
    if source["type"] == "integer":
        result["format"] = "int64"
    return result


def _ordered(schema: Schema) -> Schema:
    head = {key: schema[key] for key in _ORDER if key in schema}
    return head | {key: schema[key] for key in sorted(schema) if key not in head}
