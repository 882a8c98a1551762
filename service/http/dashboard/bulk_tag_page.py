"""``/bulk-tag``: give a tag to all customers of the list, or take it away, after a preview."""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from service.core.bulk_change import BulkKind
from service.core.numbers import whole_number
from service.core.scopes import Actor
from service.db.customers.tags import bulk, catalogue
from service.db.customers.tags.bulk import MOST_CUSTOMERS
from service.http.api.bulk_changes import made
from service.http.auth.guard import within
from service.http.budgets import PREVIEWS
from service.http.dashboard.formats import formats_of, store_clock
from service.http.dashboard.list_query import ListQuery
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form
from service.http.problems import ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/bulk-tag", include_in_schema=False)

_INVALID, _CONFLICT = 422, 409
_MOST_DIGITS = 12


@router.get("")
async def nothing_chosen() -> Response:
    """Redirect to the list, because without its form nobody is chosen."""
    return RedirectResponse("/", status_code=303)


@router.post("", dependencies=[within(PREVIEWS)])
async def ask(request: Request, actor: Editor, fields: Form) -> Response:
    """Ask which tag; with a tag, show how many customers would change."""
    return await _show(request, actor, fields)


@router.post("/apply", dependencies=[within(PREVIEWS)])
async def apply(request: Request, actor: Editor, fields: Form) -> Response:
    """Do what the preview said."""
    wanted = ListQuery.read(fields, await own_fields_of(request))
    if wanted.wrong:
        return await _show(request, actor, fields)
    expected = whole_number(fields.get("expected", ""), _MOST_DIGITS)
    try:
        await made(
            request, actor.name, wanted.filter, _kind(fields), fields.get("tag", ""), expected or 0
        )
    except ProblemError as error:
        if error.problem.status not in {_INVALID, _CONFLICT}:
            raise
        return await _show(request, actor, fields, outdated=error.problem.status == _CONFLICT)
    return done("/tags#changes", "bulk-done")


def _kind(fields: Mapping[str, str]) -> BulkKind:
    kind = fields.get("kind", "")
    return BulkKind(kind) if kind in set(BulkKind) else BulkKind.ADD_TAG


async def _show(
    request: Request, actor: Actor, fields: Mapping[str, str], *, outdated: bool = False
) -> Response:
    wanted = ListQuery.read(fields, await own_fields_of(request))
    kind, written = _kind(fields), fields.get("tag", "").strip()
    fault, would = "", None
    async with snapshot(request) as connection:
        clock = await store_clock(request, connection)
        chosen = wanted.filter(clock)
        try:
            would = await bulk.preview(connection, chosen, kind, written or "?")
        except ValueError as error:
            fault = f"The name {error}."
            would = await bulk.preview(connection, chosen, kind, "?")
        known, _ = await catalogue.list_tags(connection, most=catalogue.MOST_SUGGESTED)
    if would.changing > MOST_CUSTOMERS and written and not fault:
        fault = (
            f"That are {would.changing:,} customers, and {MOST_CUSTOMERS:,} can be changed at once."
            " Add a filter to the list, such as by when they were created."
        )
    return page(
        request,
        actor,
        "bulk_tag.html",
        status=_CONFLICT if outdated else _INVALID if fault or wanted.wrong else 200,
        wanted=wanted,
        chips=wanted.chips(formats_of(request)),
        kind=kind,
        written=written,
        would=would,
        fault=fault,
        outdated=outdated,
        suggested=known,
        ready=bool(written) and not fault and not wanted.wrong,
    )
