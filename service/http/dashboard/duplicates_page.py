"""``/duplicates``: customers who may be one person, and what was marked as not a person."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.core.customer_ids import customer_number
from service.db.customers import customer_row
from service.db.customers.identity import duplicates, not_a_person
from service.http.api.cursors import LONGEST_CURSOR, SealedCursors
from service.http.api.duplicates import dismissed
from service.http.auth.guard import within
from service.http.budgets import STATISTICS
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form, Viewer
from service.http.json_response import Json
from service.http.problems import ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/duplicates", include_in_schema=False)

_PAIRS = 20
_MISSING, _INVALID = 404, 422
_COUNT_SECONDS = 60


@router.get("", dependencies=[within(STATISTICS)])
async def show(
    request: Request,
    actor: Viewer,
    cursors: SealedCursors,
    cursor: Annotated[str | None, Query(alias="after", max_length=LONGEST_CURSOR)] = None,
) -> Response:
    """Show pairs of customers, the newest first, and the marks."""
    try:
        after = cursors.decode_pair(cursor)
    except ProblemError:
        after = None
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        found = await duplicates.duplicates(connection, _PAIRS, after)
        ids = sorted({number for pair in found.items for number in (pair.low, pair.high)})
        rows = await customer_row.read_all(connection, ids)
        marks = await not_a_person.marked(connection)
    return page(
        request,
        actor,
        "duplicates.html",
        found=found,
        pairs=[(rows[pair.low], rows[pair.high], pair.why) for pair in found.items],
        first_page=after is None,
        older=cursors.encode_pair(found.end),
        marks=marks,
    )


@router.get("/count", dependencies=[within(STATISTICS)])
async def count(request: Request, _: Viewer) -> Response:
    """Return how many pairs wait. Pages ask for it when they are shown, so none waits for it."""
    async with snapshot(request) as connection:
        waiting = await duplicates.count(connection)
    return Json(waiting, headers={"Cache-Control": f"private, max-age={_COUNT_SECONDS}"})


@router.post("/dismiss")
async def dismiss(request: Request, actor: Editor, fields: Form) -> Response:
    """Note that two customers are two people."""
    one, other = (customer_number(fields.get(name, "")) for name in ("one", "other"))
    if one is None or other is None:
        return done("/duplicates", "unchanged")
    try:
        await dismissed(request, actor.name, one, other)
    except ProblemError as error:
        if error.problem.status not in {_MISSING, _INVALID}:
            raise
        return done("/duplicates", "unchanged")  # one of them was merged or deleted meanwhile
    return done("/duplicates", "separated")
