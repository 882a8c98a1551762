"""``/api/v1/customers/{id}/interactions``: calls, e-mails, meetings and notes of staff."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, ConfigDict, Field
from starlette.responses import Response

from service.core.json_values import camel
from service.core.numbers import whole_number
from service.core.scopes import Actor
from service.db.customers import interactions
from service.db.customers.interactions import InteractionRow
from service.db.engine import in_transaction
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, existing, gone
from service.http.api.models import Camel, Collection, LongText, NotBlank, collection
from service.http.auth.guard import Reader, Writer
from service.http.body_limits import LONG_TEXT_BYTES, body_bytes
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, ProblemError
from service.http.state import snapshot, state_of

router = APIRouter(
    prefix="/api/v1/customers/{id}/interactions",
    tags=["customers"],
    responses=DOCUMENTED | NOT_FOUND,
)

Kind = Literal["call", "email", "meeting", "note"]


class NewInteraction(Camel):
    """An interaction with a customer to record."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "call", "text": "Asked about the refund."}]}
    )

    kind: Kind
    text: Annotated[LongText, NotBlank]
    happened_at: AwareDatetime | None = Field(None, description="Now, if absent.")


class InteractionPatch(Camel):
    """Changes to an interaction. An absent field stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Asked about the refund; sent."}]}
    )

    kind: Kind | None = None
    text: Annotated[LongText, NotBlank] | None = None
    happened_at: AwareDatetime | None = None


class Interaction(Camel):
    """An interaction and the person who recorded it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "17",
                    "kind": "call",
                    "happenedAt": "2026-11-22T10:05:00Z",
                    "author": "support",
                    "text": "Asked about the refund.",
                    "dateCreated": "2026-11-22T10:06:00Z",
                    "dateUpdated": "2026-11-22T10:06:00Z",
                }
            ]
        }
    )

    id: str
    kind: str
    happened_at: datetime
    author: str
    text: str
    date_created: datetime
    date_updated: datetime


class Interactions(Collection):
    """All interactions with a customer."""

    items: list[Interaction]


@router.get("", response_model=Interactions)
async def list_interactions(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """List calls, e-mails, meetings and notes, the latest first."""
    async with snapshot(request) as connection:
        await existing(request, connection, number)
        rows = await interactions.of_customer(connection, number)
    return Json(collection([interaction_json(row) for row in rows]))


@router.post(
    "",
    status_code=201,
    response_model=Interaction,
    openapi_extra=body_bytes(LONG_TEXT_BYTES),
)
async def add_interaction(
    request: Request, actor: Writer, number: CustomerNumber, body: NewInteraction
) -> Response:
    """Record a call, an e-mail, a meeting or a note. You become its author."""
    added = await record(request, actor, number, body)
    return Json(interaction_json(added), status_code=201)


async def record(
    request: Request, actor: Actor, number: int, interaction: NewInteraction
) -> InteractionRow:
    """Store an interaction and return it. Raises a problem if there is no such customer."""
    added = await in_transaction(
        state_of(request).engine,
        interactions.add,
        actor.name,
        number,
        interaction.kind,
        interaction.text,
        interaction.happened_at,
    )
    if added is None:
        raise await gone(request, number)
    return added


@router.patch(
    "/{interaction}", response_model=Interaction, openapi_extra=body_bytes(LONG_TEXT_BYTES)
)
async def change_interaction(
    request: Request,
    actor: Writer,
    number: CustomerNumber,
    interaction: str,
    body: InteractionPatch,
) -> Response:
    """Correct an interaction. An absent field stays as it is."""
    changed = await in_transaction(
        state_of(request).engine,
        interactions.change,
        actor.name,
        number,
        interaction_number(interaction),
        {name: value for name, value in body if value is not None},
    )
    if changed is None:
        raise await _no_interaction_of(request, number)
    return Json(interaction_json(changed))


@router.delete("/{interaction}", status_code=204)
async def remove_interaction(
    request: Request, actor: Writer, number: CustomerNumber, interaction: str
) -> Response:
    """Remove an interaction."""
    removed = await in_transaction(
        state_of(request).engine,
        interactions.remove,
        actor.name,
        number,
        interaction_number(interaction),
    )
    if not removed:
        raise await _no_interaction_of(request, number)
    return Response(status_code=204)


def interaction_json(interaction: InteractionRow) -> dict[str, Any]:
    """Return the JSON of an interaction."""
    return camel(interaction._asdict()) | {"id": str(interaction.id)}


def interaction_number(interaction: str) -> int:
    """Return the id of an interaction as a number. Raises the problem 404 for other text."""
    number = whole_number(interaction)
    if number is None:
        raise no_interaction()
    return number


async def _no_interaction_of(request: Request, number: int) -> ProblemError:
    """Return the answer for an interaction of a customer who does not have it.

    It leads to the one who stayed if the customer was merged: the interaction is theirs now.
    """
    missing = await gone(request, number)
    return missing if "Location" in missing.headers else no_interaction()


def no_interaction() -> ProblemError:
    """Return the problem for an interaction that the customer does not have."""
    return ProblemError(
        404, "Interaction not found", "This customer has no interaction with this id."
    )
