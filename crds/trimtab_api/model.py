"""The base of every type in the contract."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VALIDATIONS: Final = "x-kubernetes-validations"
# The API server merges such lists by these keys and refuses doubles.
MAP_BY_NAME: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
MAP_BY_TYPE: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
}
MAP_BY_ACTION: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["action"],
}
TIMESTAMP: Final[dict[str, Any]] = {"format": "date-time"}


@dataclass(frozen=True)
class Rule:
    """What must hold between fields, as a CEL expression over `self`.

    The message names the field and the remedy; `at` is the field's path below the type that has
    the rule. The API server checks rules at admission; pydantic does not, because what reaches
    our programs has been admitted.
    """

    expression: str
    message: str
    at: str = ""

    def to_schema(self) -> dict[str, str]:
        """The form of x-kubernetes-validations."""
        schema = {"rule": self.expression, "message": self.message}
        return {**schema, "fieldPath": self.at} if self.at else schema


class ApiModel(BaseModel):
    """Immutable, camelCase on the wire, and silent about fields it does not know.

    Unknown fields are ignored so that an older program survives a newer document; the API server
    prunes them from custom resources before we see them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        serialize_by_alias=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The JSON schema, with the rules."""
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)[VALIDATIONS] = [r.to_schema() for r in cls.rules]
        return schema

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: pydantic copies every default that is a model, and nobody can change one."""
        return self

    def to_wire(self) -> dict[str, object]:
        """The JSON form, without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
