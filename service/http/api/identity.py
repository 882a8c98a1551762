"""``/api/v1/customers/{id}/merge`` and ``…/split``: say who is one person and who is two."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.customer_ids import customer_number, customer_ref
from service.db.customers import editing
from service.db.customers.customer_row import CustomerRow, etag
from service.db.customers.editing import OWN
from service.db.customers.identity import outcomes
from service.db.customers.identity.outcomes import Merge, Split
from service.db.customers.identity.split import CannotSplitError
from service.db.engine import in_transaction
from service.http.api.customer_json import Customer, customer_json
from service.http.api.customer_routes import (
    NOT_FOUND,
    PRECONDITION,
    CustomerNumber,
    edited_meanwhile,
    gone,
)
from service.http.api.models import Camel, ShortText
from service.http.api.naming import normalised_text
from service.http.auth.guard import Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, ProblemError, invalid
from service.http.state import state_of

router = APIRouter(
    prefix="/api/v1/customers/{id}",
    tags=["identity"],
    responses=DOCUMENTED | NOT_FOUND | PRECONDITION,
)

DryRun = Annotated[
    bool,
    Query(alias="dryRun", description="Only answers what would become of it; nothing is changed."),
]
IfMatch = Annotated[
    str | None,
    Header(description="The `ETag` of `{id}` that you read. Answers 412 if it is out of date."),
]
_MOST_IDENTIFIERS = 200


class MergeRequest(Camel):
    """The other customer of a merge."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"other": "CUST-1002"}]})

    other: str = Field(
        max_length=50, description="The other customer. The one with the lower number stays."
    )


class MergedField(Camel):
    """What becomes of a field."""

    field: str
    value: Any
    from_: Literal["stays", "gone", "both"] = Field(
        alias="from",
        description="Whose value it is. `both`: they have the same one, or theirs are joined.",
    )


class MergeSides(Camel):
    """Both customers before a merge."""

    stays: Customer
    gone: Customer


class MergeOutcome(Camel):
    """What a merge did, or would do."""

    dry_run: bool
    stays: str = Field(description="The id that stays: the lower one. The other one leads to it.")
    gone: str
    before: MergeSides
    after: Customer
    fields: list[MergedField] = Field(
        description="Of each field, the value that was entered or ordered last stays. Consent "
        "stays where both had given it, notes are joined, of two holds the later one stays. An own "
        "field, such as `field.shoe_size`, keeps the value of the customer who stays, if there is "
        "one."
    )
    interactions: int = Field(description="Calls, e-mails, meetings and notes that move.")


class SplitRequest(Camel):
    """What means the other person."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"identifiers": ["email:omar@example.com"]}]}
    )

    identifiers: list[ShortText] = Field(
        min_length=1,
        max_length=_MOST_IDENTIFIERS,
        description="As the customer's `identifiers` have them. The orders that came with them "
        "move with them. The id of a merged customer gives back their profile, too.",
    )


class SplitOutcome(Camel):
    """Both customers after a split."""

    dry_run: bool
    customer: Customer
    new_customer: Customer


@router.post("/merge", response_model=MergeOutcome)
async def merge_customers(
    request: Request,
    actor: Writer,
    number: CustomerNumber,
    body: MergeRequest,
    *,
    dry_run: DryRun = False,
    if_match: IfMatch = None,
) -> Response:
    """Merge two customers into one. The one with the lower number stays.

    Orders, identifiers and interactions move. The other id leads to the one who stays: `GET`
    answers 301. A merge is undone by a split. With `dryRun=true`, it is tried and undone, so the
    answer is exactly what a merge does.
    """
    done = await merged(request, actor.name, number, other_of(body), dry_run, if_match)
    headers = {} if dry_run else {"ETag": etag(done.after)}
    return Json(merge_json(done) | {"dryRun": dry_run}, headers=headers)


def other_of(body: MergeRequest) -> int:
    """Return the number of the other customer. Raises the problem 422 for other text."""
    other = customer_number(body.other.strip().upper())
    if other is None:
        raise invalid("body.other", "must be the id of a customer, such as CUST-1002")
    return other


async def merged(
    request: Request,
    actor: str,
    number: int,
    other: int,
    dry_run: bool,  # noqa: FBT001
    if_match: str | None = None,
) -> Merge:
    """Merge two customers, or try it. Raises a problem."""
    if number == other:
        raise invalid("body.other", "is the same customer; name another one")
    try:
        return await in_transaction(
            state_of(request).engine,
            outcomes.merge_by_hand,
            number,
            other,
            actor,
            if_match,
            dry_run=dry_run,
        )
    except editing.CustomerNotFoundError as error:
        raise await _missing(request, number, other, error.args[0]) from None
    except editing.ChangedMeanwhileError as error:
        raise edited_meanwhile(customer_json(error.args[0])) from None


async def _missing(request: Request, number: int, other: int, missing: int) -> ProblemError:
    if missing == number:
        return await gone(request, number)
    known = (await gone(request, other)).problem.model_dump().get("stays")
    ref = customer_ref(other)
    if known == customer_ref(number):
        return invalid("body.other", f"{ref} is merged into this customer already")
    if known:
        return invalid("body.other", f"{ref} was merged into {known}; name that one")
    return invalid("body.other", f"there is no customer {ref}")


@router.post("/split", response_model=SplitOutcome)
async def split_customer(
    request: Request,
    actor: Writer,
    number: CustomerNumber,
    body: SplitRequest,
    *,
    dry_run: DryRun = False,
    if_match: IfMatch = None,
) -> Response:
    """Make two customers of one: some identifiers, and the orders that came with them, are another.

    No later event joins the two again. Merging them does. With `dryRun=true`, it is tried and
    undone; the id of the new customer is another one then.
    """
    identifiers = [
        normalised_text(request, text, f"body.identifiers.{place}")
        for place, text in enumerate(body.identifiers)
    ]
    done = await split_up(request, actor.name, number, identifiers, dry_run, if_match)
    return Json(
        {
            "dryRun": dry_run,
            "customer": customer_json(done.customer),
            "newCustomer": customer_json(done.new),
        },
        headers={} if dry_run else {"ETag": etag(done.customer)},
    )


async def split_up(
    request: Request,
    actor: str,
    number: int,
    identifiers: list[str],
    dry_run: bool,  # noqa: FBT001
    if_match: str | None = None,
) -> Split:
    """Split a customer, or try it. Raises a problem."""
    try:
        return await in_transaction(
            state_of(request).engine,
            outcomes.split_by_hand,
            number,
            identifiers,
            actor,
            if_match,
            dry_run=dry_run,
        )
    except editing.CustomerNotFoundError:
        raise await gone(request, number) from None
    except editing.ChangedMeanwhileError as error:
        raise edited_meanwhile(customer_json(error.args[0])) from None
    except CannotSplitError as error:
        raise invalid("body.identifiers", error.args[0]) from None


def merge_json(done: Merge) -> dict[str, Any]:
    """Return the JSON of a merge."""
    return {
        "stays": customer_ref(done.stays.id),
        "gone": customer_ref(done.gone.id),
        "before": {"stays": customer_json(done.stays), "gone": customer_json(done.gone)},
        "after": customer_json(done.after),
        "fields": [
            {"field": name, "value": after, "from": whose(stays, lost, after)}
            for name, (stays, lost, after) in compared(done).items()
        ],
        "interactions": done.interactions,
    }


def compared(done: Merge) -> dict[str, tuple[Any, Any, Any]]:
    """Return each field of the one who stays, of the one who goes, and after the merge."""
    rows = (done.stays, done.gone, done.after)
    sides = [_fields(row) for row in rows]
    own = [row.own_fields for row in rows]
    return {name: (sides[0][name], sides[1][name], sides[2][name]) for name in sides[0]} | {
        f"{OWN}{key}": (own[0].get(key), own[1].get(key), own[2][key]) for key in own[2]
    }


def whose(stays: Any, lost: Any, after: Any) -> Literal["stays", "gone", "both"]:
    """Return from whom a value is that a merge kept."""
    if (after == stays) == (after == lost):
        return "both"
    return "stays" if after == stays else "gone"


def _fields(row: CustomerRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "email": row.email,
        "phone": row.phone,
        "address": dict(row.address) if row.address else None,
        "emailOptIn": row.email_opt_in,
        "smsOptIn": row.sms_opt_in,
        "notes": row.notes,
        "hold": {
            "segment": row.segment,
            "pinned": row.segment_pinned,
            "until": row.segment_pinned_until,
        }
        if row.segment_manual
        else None,
        "dateCreated": row.date_created,
    }
