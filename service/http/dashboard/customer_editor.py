"""``/customers/new``, ``…/edit`` and ``…/delete``: staff create, change and delete a customer."""

import json
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from functools import partial
from typing import NamedTuple

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.own_fields import OwnField
from service.core.scopes import Actor
from service.db.customers import editing
from service.db.customers.customer_row import etag as etag_of
from service.db.customers.own_fields.catalogue import list_fields
from service.db.engine import in_transaction
from service.http.api.customer_json import CustomerPatch, NewCustomer, columns, hold
from service.http.api.customer_routes import CustomerNumber, existing, gone
from service.http.api.erasure_notice import page_of, what_stays
from service.http.body_limits import LONG_FORM_BYTES, body_bytes
from service.http.dashboard.customer_form import (
    Values,
    as_shown,
    blank,
    differing,
    entered,
    fault_at,
    faults_of,
    groups_with,
    in_words,
    labels_with,
    own_values,
    patch,
    shown,
)
from service.http.dashboard.formats import formats_of, store_clock
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Eraser, Form
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/customers", include_in_schema=False)

_INVALID, _CONFLICT = 422, 409


@router.get("/new")
async def ask_for_new(request: Request, actor: Editor) -> Response:
    """Show an empty form."""
    own = await own_fields_of(request)
    return _form(request, actor, blank(own), own)


@router.post("/new", openapi_extra=body_bytes(LONG_FORM_BYTES))
async def create(request: Request, actor: Editor, fields: Form) -> Response:
    """Create the customer, or show the form again with its mistakes."""
    state = state_of(request)
    own = await own_fields_of(request)
    values, zone = entered(fields, blank(own), own), await _zone(request)
    filled = differing(blank(own), values, own)
    given, wrong = own_values(values, filled, own)
    try:
        body = NewCustomer.model_validate(patch(values, filled, zone))
        if wrong:
            return _form(request, actor, values, own, _Faults(wrong))
        create = partial(editing.create, own=given)
        number = await in_transaction(
            state.engine, create, actor.name, columns(body), hold(body), state.config.terms.country
        )
    except (ValidationError, editing.EmailTakenError, editing.InvalidEditError) as error:
        return _form(request, actor, values, own, _faults(error, wrong))
    return done(f"/customers/{customer_ref(number)}", "created")


@router.get("/{id}/edit")
async def ask_for_changes(request: Request, actor: Editor, number: CustomerNumber) -> Response:
    """Show the form of a customer."""
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
        own = await list_fields(connection)
        was = shown(row, (await store_clock(request, connection)).zone, own)
    return _form(request, actor, was, own, of=_Shown(number, was, etag_of(row)))


@router.post("/{id}/edit", openapi_extra=body_bytes(LONG_FORM_BYTES))
async def edit(request: Request, actor: Editor, number: CustomerNumber, fields: Form) -> Response:
    """Save what was changed. If somebody else changed the customer meanwhile, show both."""
    own = await own_fields_of(request)
    was, etag, zone = as_shown(fields, own), fields.get("etag", ""), await _zone(request)
    values = entered(fields, was, own)
    changed = differing(was, values, own)
    if not changed:
        return done(f"/customers/{customer_ref(number)}", "unchanged")
    given, wrong = own_values(values, changed, own)
    while True:
        try:
            body = CustomerPatch.model_validate(patch(values, changed, zone))
            if wrong:
                faults = _Faults(wrong)
                return _form(request, actor, values, own, faults, of=_Shown(number, was, etag))
            edit = partial(editing.edit, own=given)
            edits = (actor.name, number, columns(body), hold(body), etag)
            await in_transaction(state_of(request).engine, edit, *edits)
        except editing.CustomerNotFoundError:
            raise await gone(request, number) from None
        except (ValidationError, editing.EmailTakenError, editing.InvalidEditError) as error:
            return _form(
                request, actor, values, own, _faults(error, wrong), of=_Shown(number, was, etag)
            )
        except editing.ChangedMeanwhileError as error:
            theirs, etag = shown(error.args[0], zone, own), etag_of(error.args[0])
            not_mine = differing(values, theirs, own)
            clashing = [name for name in differing(was, theirs, own) if name in not_mine]
            if clashing:
                versions = (was, values, theirs)
                return _conflict_page(
                    request, actor, number, versions, clashing, etag=etag, own=own
                )
            # There is nothing to choose: only the rules moved the customer, or both people typed
            # the same. Save again, on the latest version.
        else:
            return done(f"/customers/{customer_ref(number)}", "saved")


@router.get("/{id}/delete")
async def confirm_deletion(request: Request, actor: Eraser, number: CustomerNumber) -> Response:
    """Show what would be deleted and what would stay, and ask for confirmation."""
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
        would = await editing.would_erase(connection, number)
        await store_clock(request, connection)
    return page(
        request,
        actor,
        "delete.html",
        id=customer_ref(number),
        customer=row,
        extent=would.extent,
        stays={stay.what: stay for stay in what_stays(would, state_of(request).config)},
        mentions=would.mentions,
        page_of=page_of,
    )


@router.post("/{id}/delete")
async def delete(request: Request, actor: Eraser, number: CustomerNumber) -> Response:
    """Delete the customer and all their personal data."""
    try:
        await in_transaction(state_of(request).engine, editing.delete, actor.name, number)
    except editing.CustomerNotFoundError:
        raise await gone(request, number) from None
    return done("/", "deleted")


async def _zone(request: Request) -> tzinfo:
    async with snapshot(request) as connection:
        return (await store_clock(request, connection)).zone


class _Faults(NamedTuple):
    at: Mapping[str, str]
    """What is wrong, by control."""
    taken_by: str | None = None
    """The id of the customer who has the e-mail, if that is what is wrong."""


_NONE = _Faults({})


class _Shown(NamedTuple):
    """The customer whose form is shown."""

    number: int
    was: Values
    """The form as it was shown first."""
    etag: str


def _faults(error: Exception, wrong: Mapping[str, str]) -> _Faults:
    """Return what is wrong. ``wrong`` is what is wrong with own fields."""
    if isinstance(error, ValidationError):
        return _Faults({**faults_of(error), **wrong})
    if isinstance(error, editing.EmailTakenError):
        owner = error.args[0]
        return _Faults(fault_at("email", f"already belongs to {owner}"), owner)
    return _Faults(fault_at(*error.args))


def _form(
    request: Request,
    actor: Actor,
    values: Values,
    own: Sequence[OwnField],
    faults: _Faults = _NONE,
    *,
    of: _Shown | None = None,
) -> Response:
    """Show the form of an existing customer, or of a new one if ``of`` is None."""
    return page(
        request,
        actor,
        "editor.html",
        status=_INVALID if faults.at else 200,
        id=customer_ref(of.number) if of else None,
        values=values,
        faults=faults.at,
        groups=groups_with(own),
        faulty=[label for name, label in labels_with(own).items() if name in faults.at],
        taken_by=faults.taken_by,
        was=json.dumps(of.was, ensure_ascii=False) if of else "",
        etag=of.etag if of else "",
    )


def _conflict_page(
    request: Request,
    actor: Actor,
    number: int,
    versions: tuple[Values, Values, Values],
    clashing: list[str],
    *,
    etag: str,
    own: Sequence[OwnField],
) -> Response:
    """Show what was entered beside what somebody else saved.

    ``versions`` are the form as it was shown, as it was entered, and as others saved it.
    """
    was, values, theirs = versions
    f = formats_of(request)
    changed = differing(was, values, own)
    labels = labels_with(own)
    return page(
        request,
        actor,
        "conflict.html",
        status=_CONFLICT,
        id=customer_ref(number),
        name=theirs["name"] or theirs["email"] or theirs["phone"] or customer_ref(number),
        values=values,
        was=json.dumps(theirs, ensure_ascii=False),
        etag=etag,
        rows=[
            {
                "field": name,
                "label": labels[name],
                "mine": in_words(name, values, f),
                "theirs": in_words(name, theirs, f),
                "touched": name in changed,
            }
            for name in clashing
        ],
        others=[labels[name] for name in changed if name not in clashing],
    )
