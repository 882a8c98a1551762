"""``/api/v1/fields``: the fields that admins define for all customers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.own_fields import (
    LONGEST_CHOICE,
    LONGEST_KEY,
    LONGEST_LABEL,
    MOST_CHOICES,
    MOST_FIELDS,
    FieldKind,
    OwnField,
)
from service.db.customers.own_fields import catalogue
from service.db.customers.own_fields.catalogue import (
    FieldConflictError,
    FieldNotFoundError,
    InvalidFieldError,
    Usage,
)
from service.db.engine import in_transaction
from service.http.api.models import Camel, Collection, Storable, collection
from service.http.auth.guard import Admin, Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Fault, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/fields", tags=["fields"], responses=DOCUMENTED)

_NO_FIELD: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such field."}
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "Another field has this key or label, there are too many fields, or a "
        "choice that is left out is in use.",
    }
}
FieldPath = Annotated[str, Path(max_length=LONGEST_KEY, examples=["shoe_size"])]
Label = Annotated[Storable, Field(max_length=4 * LONGEST_LABEL)]
Choice = Annotated[Storable, Field(max_length=4 * LONGEST_CHOICE)]
Choices = Annotated[list[Choice], Field(max_length=MOST_CHOICES)]


class FieldJson(Camel):
    """A field."""

    model_config = ConfigDict(
        title="Field",
        json_schema_extra={
            "examples": [
                {"key": "shoe_size", "label": "Shoe size", "kind": "number", "choices": []},
                {
                    "key": "skin_type",
                    "label": "Skin type",
                    "kind": "choice",
                    "choices": ["Dry", "Oily"],
                },
            ]
        },
    )

    key: str = Field(description="Names the field in requests and files. It never changes.")
    label: str
    kind: FieldKind
    choices: list[str] = Field(description="In their order. Empty unless the kind is `choice`.")


class UsedField(FieldJson):
    """A field, and how many customers have a value in it."""

    model_config = ConfigDict(
        title="UsedField",
        json_schema_extra={
            "examples": [
                {
                    "key": "skin_type",
                    "label": "Skin type",
                    "kind": "choice",
                    "choices": ["Dry", "Oily"],
                    "customers": 41,
                    "customersByChoice": {"Dry": 30, "Oily": 11},
                }
            ]
        },
    )

    customers: int
    customers_by_choice: dict[str, int] = Field(
        description="Of a choice: how many have each, if anybody has."
    )


class Fields(Collection):
    """The fields, in their order."""

    items: list[FieldJson]


class NewField(Camel):
    """A field to define."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"label": "Shoe size", "kind": "number"},
                {"label": "Skin type", "kind": "choice", "choices": ["Dry", "Oily"]},
            ]
        }
    )

    label: Label
    kind: FieldKind
    choices: Choices = Field(default_factory=list)
    key: str | None = Field(
        None,
        max_length=LONGEST_KEY,
        description="Letters a to z, digits and `_`. Without one, it is made of the label.",
    )


class FieldPatch(Camel):
    """Changes to a field. What is absent stays. The key and the kind never change."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"label": "Size of shoes", "position": 1},
                {"renamed": {"Dry": "Very dry"}, "choices": ["Very dry", "Oily", "Mixed"]},
            ]
        }
    )

    label: Label | None = None
    choices: Choices | None = Field(
        None, description="All choices. One that customers have cannot be left out."
    )
    renamed: dict[Choice, Choice] = Field(
        default_factory=dict,
        max_length=MOST_CHOICES,
        description="The new name of each choice that gets one. Customers keep it.",
    )
    position: int | None = Field(None, ge=1, le=MOST_FIELDS, description="From 1.")


class DeletedField(Camel):
    """What went with a field."""

    customers: int = Field(description="Customers who had a value in it.", examples=[41])


@router.get("", response_model=Fields)
async def list_fields(request: Request, _: Reader) -> Response:
    """List the fields in their order. A customer's `fields` has their values by key."""
    async with snapshot(request) as connection:
        found = await catalogue.list_fields(connection)
    return Json(collection([field_json(field) for field in found]))


@router.post("", status_code=201, response_model=FieldJson, responses=_CONFLICT)
async def create_field(request: Request, actor: Admin, body: NewField) -> Response:
    """Define a field for all customers. There can be 20."""
    field = await created(request, actor.name, body)
    headers = {"Location": f"/api/v1/fields/{field.key}"}
    return Json(field_json(field), status_code=201, headers=headers)


async def created(request: Request, actor: str, body: NewField) -> OwnField:
    """Define a field. Raises a problem."""
    with _problems():
        return await in_transaction(
            state_of(request).engine,
            catalogue.create,
            actor,
            body.label,
            body.kind,
            body.choices,
            body.key,
        )


@router.get("/{key}", response_model=UsedField, responses=_NO_FIELD)
async def read_field(request: Request, _: Reader, key: FieldPath) -> Response:
    """Read a field, and count the customers who have a value in it."""
    field, usage = await used(request, key)
    counts = {"customers": usage.customers, "customersByChoice": usage.by_choice}
    return Json(field_json(field) | counts)


async def used(request: Request, key: str) -> tuple[OwnField, Usage]:
    """Return a field and how much it is used. Raises a problem."""
    async with snapshot(request) as connection:
        with _problems():
            field = await catalogue.read_field(connection, key)
        return field, await catalogue.usage(connection, field)


@router.patch("/{key}", response_model=FieldJson, responses=_NO_FIELD | _CONFLICT)
async def change_field(
    request: Request, actor: Admin, key: FieldPath, body: FieldPatch
) -> Response:
    """Rename a field, move it, or change its choices."""
    return Json(field_json(await changed(request, actor.name, key, body)))


async def changed(request: Request, actor: str, key: str, body: FieldPatch) -> OwnField:
    """Change a field. Raises a problem."""

    async def change(connection: Any) -> OwnField:
        return await catalogue.change(
            connection,
            actor,
            key,
            label=body.label,
            choices=body.choices,
            renamed=body.renamed,
            position=body.position,
        )

    with _problems():
        return await in_transaction(state_of(request).engine, change)


@router.delete("/{key}", response_model=DeletedField, responses=_NO_FIELD)
async def delete_field(request: Request, actor: Admin, key: FieldPath) -> Response:
    """Delete a field with the values of all customers. Nobody can undo it."""
    return Json({"customers": await deleted(request, actor.name, key)})


async def deleted(request: Request, actor: str, key: str) -> int:
    """Delete a field; return how many customers had a value. Raises a problem."""
    with _problems():
        return await in_transaction(state_of(request).engine, catalogue.delete, actor, key)


def field_json(field: OwnField) -> dict[str, Any]:
    """Return the JSON of a field."""
    return field._asdict()


@contextmanager
def _problems() -> Iterator[None]:
    """Turn errors of the catalogue into problems."""
    try:
        yield
    except FieldNotFoundError:
        raise ProblemError(404, "Field not found", "There is no field with this key.") from None
    except InvalidFieldError as error:
        part, reason = error.args
        where = f"body.{part}"
        raise invalid(where, reason) from None
    except FieldConflictError as error:
        part, reason = error.args
        where = f"body.{part}" if part else "body"
        faults = [Fault(where=where, message=reason)]
        raise ProblemError(409, "Field conflict", f"{where}: {reason}", faults) from None
