"""``/customers/{id}/merge…`` and ``…/split``: staff say who is one person and who is two."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from service.core.customer_ids import customer_number, customer_ref
from service.core.own_fields import OwnField
from service.core.scopes import Actor
from service.db.customers.customer_row import CustomerRow, etag
from service.db.customers.editing import OWN
from service.db.customers.identity.claims import orders_named_by
from service.db.customers.identity.outcomes import Merge
from service.db.customers.own_fields.catalogue import list_fields
from service.http.api.customer_routes import CustomerNumber, existing, not_found
from service.http.api.identity import compared, merged, split_up, whose
from service.http.dashboard.candidates import candidates
from service.http.dashboard.customer_form import LABELS, kept_for
from service.http.dashboard.formats import Formats, formats_of, store_clock
from service.http.dashboard.own_field_words import own_in_words, own_labels
from service.http.dashboard.profile_page import address_lines
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form
from service.http.problems import ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/customers/{id}", include_in_schema=False)

_INVALID = 422
_EDITED_MEANWHILE = 412
_NO = "no"
_LABELS = {
    "emailOptIn": LABELS["email_opt_in"],
    "smsOptIn": LABELS["sms_opt_in"],
    "address": "Address",
    "hold": "Segment set by hand",
    "dateCreated": "Customer since",
}


def _other_number(other: Annotated[str, Path()]) -> int:
    number = customer_number(other)
    if number is None:
        raise not_found()
    return number


@router.get("/merge")
async def choose(request: Request, actor: Editor, number: CustomerNumber) -> Response:
    """Ask for the other customer. Those with the same name are offered first."""
    return await _choose(request, actor, number, None)


@router.post("/merge")
async def search(request: Request, actor: Editor, number: CustomerNumber, fields: Form) -> Response:
    """Show the customers that a search finds."""
    return await _choose(request, actor, number, fields.get("q", ""))


async def _choose(request: Request, actor: Actor, number: int, searched: str | None) -> Response:
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
        term = row.name or row.phone or "" if searched is None else searched
        found = await candidates(connection, term, without=number)
    return page(
        request,
        actor,
        "merge.html",
        id=customer_ref(number),
        c=row,
        searched=term,
        by_person=searched is not None,
        found=found,
    )


@router.get("/merge/{other}")
async def compare(
    request: Request, actor: Editor, number: CustomerNumber, other: Annotated[str, Path()]
) -> Response:
    """Show both customers side by side, and what a merge makes of them."""
    return await _compare(request, actor, number, _other_number(other))


@router.post("/merge/{other}")
async def merge(
    request: Request,
    actor: Editor,
    number: CustomerNumber,
    other: Annotated[str, Path()],
    fields: Form,
) -> Response:
    """Merge the two. If one of them was edited meanwhile, show both again."""
    second = _other_number(other)
    try:
        outcome = await merged(
            request, actor.name, number, second, dry_run=False, if_match=fields.get("etag", "")
        )
    except ProblemError as error:
        if error.problem.status != _EDITED_MEANWHILE:
            raise
        return await _compare(request, actor, number, second, edited=True)
    return done(f"/customers/{customer_ref(outcome.after.id)}", "merged")


async def _compare(
    request: Request, actor: Actor, number: int, other: int, *, edited: bool = False
) -> Response:
    outcome = await merged(request, actor.name, number, other, dry_run=True)
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        fields = await list_fields(connection)
    f = formats_of(request)
    asked = outcome.stays if outcome.stays.id == number else outcome.gone
    return page(
        request,
        actor,
        "compare.html",
        status=_EDITED_MEANWHILE if edited else 200,
        id=customer_ref(number),
        other=customer_ref(other),
        merge=outcome,
        rows=_rows(outcome, fields, f),
        etag=etag(asked),
        edited=edited,
    )


def _rows(outcome: Merge, fields: Sequence[OwnField], f: Formats) -> list[dict[str, Any]]:
    sides = (outcome.stays, outcome.gone, outcome.after)
    labels = {**LABELS, **_LABELS, **own_labels(fields)}
    own = {f"{OWN}{field.key}": field for field in fields}
    rows = []
    for name, values in compared(outcome).items():
        if name in own:
            words = [own_in_words(own[name], value, f) for value in values]
        else:
            pairs = zip(values, sides, strict=True)
            words = [_in_words(name, value, row, f) for value, row in pairs]
        if set(words) - {"", _NO}:
            rows.append({"label": labels[name], "words": words, "from": whose(*values)})
    return rows


def _in_words(name: str, value: Any, row: CustomerRow, f: Formats) -> str:
    if name == "dateCreated":
        return f.day(value)
    if name == "hold":
        return f"{value['segment'].replace('_', ' ')}, kept {kept_for(row, f)}" if value else ""
    if name == "address":
        return ", ".join(address_lines(value or {}))
    if isinstance(value, bool):
        return "yes" if value else _NO
    return value or ""


@router.get("/split")
async def choose_identifiers(request: Request, actor: Editor, number: CustomerNumber) -> Response:
    """Ask what belongs to the other person."""
    return await _ask_for_split(request, actor, number)


@router.post("/split")
async def split(request: Request, actor: Editor, number: CustomerNumber, fields: Form) -> Response:
    """Show what a split makes of the customer; do it once it was confirmed."""
    taken = [value for name, value in sorted(fields.items()) if name.startswith("take.")]
    confirmed = fields.get("confirm") == "yes"
    if not taken:
        return await _ask_for_split(request, actor, number, taken, "Choose at least one of them.")
    try:
        tag = fields.get("etag") if confirmed else None
        outcome = await split_up(
            request, actor.name, number, taken, dry_run=not confirmed, if_match=tag
        )
    except ProblemError as error:
        if error.problem.status not in {_INVALID, _EDITED_MEANWHILE}:
            raise
        says = {
            _EDITED_MEANWHILE: "Somebody edited this customer meanwhile. Check your choice again."
        }.get(error.problem.status, "")
        says = says or (
            "Leave at least one of them to this customer."
            if "leave at least" in error.problem.detail
            else "These have changed meanwhile. Choose again."
        )
        return await _ask_for_split(request, actor, number, taken, says)
    if confirmed:
        return done(f"/customers/{customer_ref(number)}", "split")
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
    return page(
        request,
        actor,
        "split_preview.html",
        id=customer_ref(number),
        split=outcome,
        taken=taken,
        etag=etag(row),
    )


async def _ask_for_split(
    request: Request, actor: Actor, number: int, taken: Any = (), fault: str = ""
) -> Response:
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
        orders = await orders_named_by(connection, number)
    return page(
        request,
        actor,
        "split.html",
        status=_INVALID if fault else 200,
        id=customer_ref(number),
        c=row,
        orders=orders,
        taken=taken,
        fault=fault,
    )
