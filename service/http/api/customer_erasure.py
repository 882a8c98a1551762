"""``DELETE /api/v1/customers/{id}``: erase a person, and say what stays and until when."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.db.customers import editing
from service.db.engine import in_transaction
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, gone
from service.http.api.erasure_notice import erasure_json
from service.http.api.models import Camel
from service.http.auth.guard import Eraser
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import state_of

router = APIRouter(prefix="/api/v1/customers", tags=["customers"], responses=DOCUMENTED)


class ErasedCounts(Camel):
    """How much was erased besides the profile, its e-mails and its search text."""

    interactions: int
    edits: int = Field(description="Edits whose old and new values were erased.")
    dead_letters: int = Field(description="Dead letters whose contents were erased.")


class Stays(Camel):
    """Something that stays, and until when."""

    what: Literal["orders", "segmentChanges", "streamEntries", "databaseFiles"]
    count: int | None
    until: datetime | None
    why: str


class Mention(Camel):
    """A text of somebody else that mentions the person. The text itself is not shown here."""

    where: Literal["notes", "field", "interaction", "audit"]
    id: str | None = Field(description="The id of the interaction or of the audit entry.")
    action: str | None = Field(description="What was done, for an audit entry.")
    customer_id: str | None
    page: str | None = Field(description="The dashboard's page that shows the text.")
    at: datetime


class Mentions(Camel):
    """Texts of others, the latest first, at most 100 of each kind. An erasure leaves them."""

    items: list[Mention]
    complete: bool = Field(description="False if there are more.")


class Erasure(Camel):
    """What an erasure erased, and what stays."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "CUST-1001",
                    "erasedAt": "2026-11-22T10:00:00.123456Z",
                    "erased": {"interactions": 2, "edits": 3, "deadLetters": 1},
                    "pseudonymisedOrderIds": 1,
                    "stays": [
                        {
                            "what": "streamEntries",
                            "count": None,
                            "until": "2026-11-29T10:00:00.123456Z",
                            "why": "The order events that Redis carries are deleted within "
                            "minutes after every consumer group has read them.",
                        }
                    ],
                    "mentions": {
                        "items": [
                            {
                                "where": "notes",
                                "id": None,
                                "action": None,
                                "customerId": "CUST-1002",
                                "page": "/customers/CUST-1002",
                                "at": "2026-11-20T08:00:00Z",
                            }
                        ],
                        "complete": True,
                    },
                }
            ]
        }
    )

    id: str
    erased_at: datetime
    erased: ErasedCounts
    pseudonymised_order_ids: int = Field(
        alias="pseudonymisedOrderIds",
        description="Order ids that held an e-mail, a phone or the name.",
    )
    stays: list[Stays]
    mentions: Mentions


@router.delete("/{id}", response_model=Erasure, responses=NOT_FOUND)
async def erase_customer(request: Request, actor: Eraser, number: CustomerNumber) -> Response:
    """Erase a person: profile, notes, interactions, edits and dead letters, but not their orders.

    The orders stay, without a name. Old events that arrive again do not bring the person back.
    An order that they place from now on creates a new customer. The answer says what stays, and
    lists texts of others that mention the person, for somebody to read.
    """
    state = state_of(request)
    try:
        erased = await in_transaction(state.engine, editing.delete, actor.name, number)
    except editing.CustomerNotFoundError:
        raise await gone(request, number) from None
    return Json(erasure_json(number, erased, state.config))
