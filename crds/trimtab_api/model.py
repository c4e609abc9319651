"""The base of every type in the contract."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


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

    def to_wire(self) -> dict[str, object]:
        """The JSON form, without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
