"""Models that the routes share: camelCase fields, texts that can be stored, pages of lists."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _storable(value: str) -> str:
    if "\x00" in value:
        msg = "contains the character U+0000, which cannot be stored; remove it"
        raise ValueError(msg)
    return value.strip()


def _not_blank(value: str) -> str:
    if not value:
        msg = "must not be blank"
        raise ValueError(msg)
    return value


Storable = Annotated[str, AfterValidator(_storable)]
NotBlank = AfterValidator(_not_blank)
ShortText = Annotated[Storable, Field(max_length=1000)]
LongText = Annotated[Storable, Field(max_length=20_000)]


class Camel(BaseModel):
    """A model with camelCase fields. Unknown fields are refused, because they are mistakes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Collection(Camel):
    """A page of a list."""

    total: int
    next_cursor: str | None


def collection(
    items: Sequence[Any], total: int | None = None, next_cursor: str | None = None
) -> dict[str, Any]:
    """Return the JSON of a page. Without ``total``, the page is the whole list."""
    count = len(items) if total is None else total
    return {"items": items, "total": count, "nextCursor": next_cursor}
