"""``/imports``: bring files of customers and orders; look at what they would change first."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from service.core.own_fields import OwnField
from service.core.scopes import Actor
from service.db.customers.own_fields.catalogue import list_fields
from service.db.operations import imports
from service.http.api.import_steps import (
    delete,
    existing,
    not_found,
    options_of,
    received,
    refused_csv,
    run_again,
    stop,
)
from service.http.auth.guard import PageUpload, within
from service.http.body_limits import UPLOAD
from service.http.budgets import UPLOADS
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form, Viewer
from service.http.problems import ProblemError
from service.http.state import snapshot, state_of
from service.transfer import import_report
from service.transfer.formats import FORMATS
from service.transfer.formats.ours import CUSTOMERS, ORDERS
from service.transfer.import_options import ImportOptions
from service.transfer.lines import FileKind, Verdict
from service.transfer.own_fields_in import own_columns

router = APIRouter(prefix="/imports", include_in_schema=False)

_ROWS = 20
_OPTIONS = {"hold_segments": "To set those by hand, choose that under Options, and look again."}
Number = Annotated[str, Path(pattern=r"^\d{1,18}$")]


@router.get("")
async def show(
    request: Request,
    actor: Viewer,
    before: Annotated[str | None, Query(pattern=r"^\d{1,18}$")] = None,
) -> Response:
    """Show the form to send a file, and the imports so far."""
    return await _list(request, actor, int(before) if before else None)


@router.post("", dependencies=[within(UPLOADS)], openapi_extra={UPLOAD: True})
async def send(request: Request, sent: PageUpload) -> Response:
    """Store a file, and show what importing it would do."""
    try:
        number = await received(request, sent.actor, sent.upload)
    except ProblemError as error:
        if error.problem.status != 422 or not error.problem.errors[0].where.startswith("file"):  # noqa: PLR2004
            raise
        return await _list(request, sent.actor, None, fault=error.problem.errors[0].message)
    return RedirectResponse(f"/imports/{number}", status_code=303)


async def _list(request: Request, actor: Actor, before: int | None, fault: str = "") -> Response:
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        found, total = await imports.latest(connection, before, _ROWS)
        own = await list_fields(connection)
    return page(
        request,
        actor,
        "imports.html",
        status=422 if fault else 200,
        found=found,
        total=total,
        older=found[-1].id if len(found) == _ROWS else None,
        first=before is None,
        fault=fault,
        most=state_of(request).config.max_import_bytes,
        **_form(ImportOptions(), own),
    )


def _form(options: ImportOptions, own: Sequence[OwnField]) -> dict[str, Any]:
    return {
        "options": options,
        "formats": {each.name: each.title for each in FORMATS},
        "kinds": list(FileKind),
        "ours": {
            "customers": CUSTOMERS.with_own(own_columns(own)).columns,
            "orders": ORDERS.columns,
        },
    }


@router.get("/{number}")
async def show_one(request: Request, actor: Viewer, number: Number) -> Response:
    """Show what an import would do, how far it is, or what it has done."""
    found = await existing(request, int(number))
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        own = await list_fields(connection)
    options = ImportOptions(**found.options)
    currency = state_of(request).config.store_currency
    return page(
        request,
        actor,
        "import.html",
        it=found,
        parts=[_part(report, options, currency) for report in found.report or ()],
        records=sum(part[verdict] for part in found.summary or () for verdict in _WRITTEN),
        verdicts=_VERDICTS,
        moment=datetime.fromisoformat,
        **_form(options, own),
    )


_WRITTEN = (Verdict.NEW, Verdict.CHANGED)
_VERDICTS = {
    Verdict.NEW: "new",
    Verdict.CHANGED: "changed",
    Verdict.UNCHANGED: "unchanged",
    Verdict.OLDER: "newer here",
}


def _part(report: Mapping[str, Any], options: ImportOptions, currency: str) -> dict[str, Any]:
    """Return a report with the sentences that explain it."""
    unknown = import_report.unknown_columns(report)
    advice = import_report.advice(report, holds_segments=options.hold_segments)
    return {
        **report,
        "has_totals": import_report.has_totals(report),
        "whose": import_report.customers_named(report),
        "apart": list(import_report.other_currencies(report, currency)),
        "aside": [
            *import_report.left_aside(report),
            *([f"Not known here: {unknown}."] if unknown else []),
        ],
        "noticed": list(import_report.noticed(report)),
        "told": import_report.lines_told(report),
        "advice": [
            " ".join(filter(None, (each.sentence, _OPTIONS.get(each.option or ""))))
            for each in advice
        ],
    }


@router.post("/{number}/run")
async def run(request: Request, actor: Editor, number: Number, fields: Form) -> Response:
    """Import the file, or look again with other options."""
    applies = fields.get("apply") == "yes"
    changed = "options" in fields
    options = options_of({name: [value] for name, value in fields.items()}) if changed else None
    await run_again(request, actor, int(number), applies=applies, options=options)
    return RedirectResponse(f"/imports/{number}", status_code=303)


@router.post("/{number}/stop")
async def stop_one(request: Request, actor: Editor, number: Number) -> Response:  # noqa: ARG001
    """Stop a running import."""
    await stop(request, int(number))
    return RedirectResponse(f"/imports/{number}", status_code=303)


@router.post("/{number}/delete")
async def delete_one(request: Request, actor: Editor, number: Number) -> Response:  # noqa: ARG001
    """Delete an import that has written nothing, and its file."""
    await delete(request, int(number))
    return done("/imports", "import-deleted")


@router.get("/{number}/refused.csv")
async def refused(request: Request, actor: Editor, number: Number) -> Response:  # noqa: ARG001
    """Return the list of the refused lines."""
    found = await existing(request, int(number))
    if not found.has_refused:
        raise not_found()
    return refused_csv(request, found)
