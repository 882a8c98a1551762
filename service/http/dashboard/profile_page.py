"""``/customers/{id}``: one customer, with orders, interactions and timeline."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.numbers import whole_number
from service.core.order_flags import OrderFlag
from service.core.rfm import scores
from service.core.scopes import Actor
from service.core.segment_explanation import explain
from service.core.tags import MOST_TAGS, tag_names
from service.db.customers import interactions, order_conflicts, timeline
from service.db.customers.identity import by_hand
from service.db.customers.identity.claims import orders_named_by
from service.db.customers.order_history import not_counted
from service.db.customers.order_history import of_customer as orders_of_customer
from service.db.customers.own_fields.catalogue import list_fields
from service.db.customers.tags import catalogue
from service.db.engine import in_transaction
from service.db.outlook import contacts, models, reading
from service.db.segments import rule_settings
from service.http.api.customer_interactions import (
    NewInteraction,
    interaction_number,
    no_interaction,
    record,
)
from service.http.api.customer_outlook import lapse_of_customer
from service.http.api.customer_routes import CustomerNumber, existing
from service.http.api.tags import TagsPatch, retagged
from service.http.body_limits import LONG_FORM_BYTES, body_bytes
from service.http.dashboard.customer_form import BASIC, LABELS, faults_of, kept_for
from service.http.dashboard.formats import formats_of, store_clock
from service.http.dashboard.insight_words import LISTS, outlook_sentences
from service.http.dashboard.own_field_words import own_in_words, own_labels
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form, Viewer
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/customers/{id}", include_in_schema=False)

_FIRST = {"orders": 10, "interactions": 10, "events": 20}
"""How much of each list is shown at first."""
_MORE_FACTOR = 5
"""By how much "Show more" multiplies what is shown."""
_MOST_SHOWN = 1000
"""The most entries of a list that the page shows."""
_INVALID = 422


@router.get("")
async def show(request: Request, actor: Viewer, number: CustomerNumber) -> Response:
    """Show the customer. The query says how much of each list."""
    return await _show(request, actor, number)


@router.post("/interactions", openapi_extra=body_bytes(LONG_FORM_BYTES))
async def add_interaction(
    request: Request, actor: Editor, number: CustomerNumber, fields: Form
) -> Response:
    """Add an interaction, or show the page again with its mistakes."""
    async with snapshot(request) as connection:
        zone = (await store_clock(request, connection)).zone
    try:
        body = NewInteraction.model_validate(
            {
                "kind": fields.get("kind"),
                "text": fields.get("text"),
                "happened_at": _moment(fields.get("when", ""), zone),
            }
        )
    except ValidationError as error:
        return await _show(request, actor, number, fields, faults_of(error))
    await record(request, actor, number, body)
    return done(f"/customers/{customer_ref(number)}", "interaction-added")


@router.post("/interactions/{interaction}/remove")
async def remove_interaction(
    request: Request, actor: Editor, number: CustomerNumber, interaction: str
) -> Response:
    """Remove an interaction. People may only remove what they entered themselves."""
    removed = await in_transaction(
        state_of(request).engine,
        interactions.set_aside,
        actor.name,
        number,
        interaction_number(interaction),
    )
    if not removed:
        raise no_interaction()
    return done(f"/customers/{customer_ref(number)}#interactions", "interaction-removed")


@router.post("/interactions/{interaction}/restore")
async def restore_interaction(
    request: Request, actor: Editor, number: CustomerNumber, interaction: str
) -> Response:
    """Take back an interaction that the same person has just removed."""
    restored = await in_transaction(
        state_of(request).engine,
        interactions.take_back,
        actor.name,
        number,
        interaction_number(interaction),
    )
    if not restored:
        raise no_interaction()
    return done(f"/customers/{customer_ref(number)}#interactions", "interaction-restored")


@router.post("/tags")
async def change_tags(
    request: Request, actor: Editor, number: CustomerNumber, fields: Form
) -> Response:
    """Give the customer the tags that were typed, or take away the one whose button was pressed."""
    try:
        remove = [fields["remove"]] if fields.get("remove") else []
        body = TagsPatch(add=tag_names(fields.get("add", "")), remove=remove)
    except ValidationError:
        fault = f"These are more than {MOST_TAGS} tags."
        return await _show(request, actor, number, fields, {"add": fault})
    except ValueError as error:
        return await _show(request, actor, number, fields, {"add": f"A tag {error}."})
    await retagged(request, actor.name, number, body)
    return done(f"/customers/{customer_ref(number)}", "tags-changed")


async def _show(
    request: Request,
    actor: Actor,
    number: int,
    entered: Mapping[str, str] | None = None,
    faults: Mapping[str, str] | None = None,
) -> Response:
    shown = {name: _count(request.query_params.get(name, ""), n) for name, n in _FIRST.items()}
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
        orders = await orders_of_customer(connection, number, shown["orders"], None)
        in_conflict = [order.id for order in orders.items if OrderFlag.CONFLICT in order.flags]
        contradictions = await order_conflicts.of_orders(connection, in_conflict)
        entries = await interactions.with_removed(connection, number)
        removed = await by_hand.removed_lately(connection, number, actor.name)
        events = await timeline.timeline(connection, number, shown["events"], None)
        since = await timeline.segment_since(connection, number)
        named_by = await orders_named_by(connection, number)
        current = (await rule_settings.current(connection)).settings
        suggested, _ = await catalogue.list_tags(connection, most=catalogue.MOST_SUGGESTED)
        uncounted = await not_counted(connection, number)
        clock = await store_clock(request, connection)
        now = clock.now
        model = await models.newest(connection)
        outlook = (await reading.outlooks_of(connection, [number])).get(number)
        contacted = await contacts.of_customer(connection, number)
        own = await list_fields(connection)
    # What can be taken back is shown to the person who removed it, and to nobody else.
    notes = [
        kept for kept in entries if kept.removed_at is None or kept.interaction.author == actor.name
    ]
    f = formats_of(request)
    money = model is not None and model.verdict.shows_money
    return page(
        request,
        actor,
        "customer.html",
        status=_INVALID if faults else 200,
        id=customer_ref(number),
        c=row,
        named_by=named_by,
        removed=removed,
        suggested=suggested,
        address=address_lines(row.address or {}),
        kept_for=kept_for(row, f),
        orders=orders,
        contradictions=contradictions,
        interactions=notes[: shown["interactions"]],
        events=events,
        lists={
            name: {"total": total, "more": _more(shown, name, total)}
            for name, total in (
                ("orders", orders.total),
                ("interactions", len(notes)),
                ("events", events.total),
            )
        },
        most_shown=_MOST_SHOWN,
        since=since,
        rules=current,
        why=explain(row.facts, current, now, f, uncounted),
        now=now,
        outlook=outlook
        and outlook_sentences(outlook, lapse_of_customer(row, current, now), clock, f, money=money),
        rfm=outlook and scores(outlook.rfm),
        contacted=contacted,
        work_lists=LISTS,
        basic=BASIC.fields,
        labels={**LABELS, **own_labels(own)},
        own=[(each.label, own_in_words(each, row.own_fields.get(each.key), f)) for each in own],
        entered=entered or {},
        faults=faults or {},
    )


def address_lines(address: Mapping[str, str]) -> list[str]:
    """Return the lines of an address, as on an envelope."""
    region = " ".join(filter(None, (address.get("state"), address.get("zip"))))
    town = ", ".join(filter(None, (address.get("city"), region)))
    return [line for line in (address.get("street"), town, address.get("country")) if line]


def _count(written: str, otherwise: int) -> int:
    number = whole_number(written)
    return otherwise if number is None else min(max(number, otherwise), _MOST_SHOWN)


def _more(shown: Mapping[str, int], name: str, total: int) -> str | None:
    """Return the query of the page with more of a list. None if it shows all."""
    if shown[name] >= min(total, _MOST_SHOWN):
        return None
    wanted = {**shown, name: min(shown[name] * _MORE_FACTOR, _MOST_SHOWN)}
    return "&".join(f"{key}={n}" for key, n in wanted.items() if n != _FIRST[key])


def _moment(written: str, zone: tzinfo) -> datetime | str | None:
    """Read a date and time as a control sends it: without a zone, so it is the store's."""
    if not written:
        return None
    try:
        return datetime.fromisoformat(written).replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return written  # the model refuses it
