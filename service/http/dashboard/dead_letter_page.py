"""``/operations/dead-letters/…``: look at a dead letter, retry it, discard one or several."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.db.operations import dead_letters
from service.db.operations.dead_letters import Selection
from service.http.api import dead_letter_removal
from service.http.api.dead_letter_replay import replay_one
from service.http.api.dead_letters import LetterNumber, first_seen_before, open_letter
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Editor, Form, Viewer
from service.http.state import snapshot

router = APIRouter(include_in_schema=False)

_SHOWN_BYTES = 65_536
"""How much of a dead letter its page shows."""


@router.get("/operations/dead-letters/discard")
async def choose(
    request: Request,
    actor: Admin,
    reason: Annotated[str, Query(max_length=100)] = "",
    before: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """Ask which dead letters to discard, and say how many they are."""
    selected = await _selection(request, reason, before)
    async with snapshot(request) as connection:
        reasons = await dead_letters.summary(connection)
        chosen = await dead_letters.count(connection, selected) if any(selected) else None
    return page(
        request,
        actor,
        "discard_letters.html",
        heading="Discard dead letters",
        back="/operations",
        width="narrow",
        reasons=reasons,
        reason=reason,
        before=before,
        chosen=chosen,
    )


@router.post("/operations/dead-letters/discard")
async def discard_chosen(request: Request, actor: Admin, fields: Form) -> Response:
    """Delete the dead letters of a reason and an age. The reason given stays in the audit log."""
    selected = await _selection(request, fields.get("reason", ""), fields.get("before", ""))
    if any(selected):
        await dead_letter_removal.discard_selected(request, actor, selected, _why(fields))
    return done("/operations", "letters-discarded" if any(selected) else "unchanged")


@router.get("/operations/dead-letters/{id}")
async def inspect(request: Request, actor: Viewer, number: LetterNumber) -> Response:
    """Show a dead letter. Only people who may write or administer see its contents."""
    letter, parts = await open_letter(request, number, _SHOWN_BYTES)
    async with snapshot(request) as connection:
        await store_clock(request, connection)
    opened = [(_as_text(part.name), _as_text(part.value), part) for part in parts]
    return page(
        request,
        actor,
        "dead_letter.html",
        heading=f"Dead letter {number}",
        back="/operations",
        width="wide",
        letter=letter,
        parts=opened,
    )


@router.post("/operations/dead-letters/{id}/replay")
async def replay(request: Request, actor: Editor, number: LetterNumber, _: Form) -> Response:
    """Judge a dead letter again. If it is accepted now, it is applied and removed."""
    if (await replay_one(request, actor, number)).refused:
        return done(f"/operations/dead-letters/{number}", "refused")
    return done("/operations", "replayed")


@router.post("/operations/dead-letters/{id}/discard")
async def discard(request: Request, actor: Admin, number: LetterNumber, fields: Form) -> Response:
    """Delete a dead letter. The reason stays in the audit log."""
    await dead_letter_removal.discard(request, actor, number, _why(fields))
    return done("/operations", "discarded")


async def _selection(request: Request, reason: str, before: str) -> Selection:
    return Selection(reason or None, await first_seen_before(request, before or None))


def _why(fields: Form) -> str:
    return fields.get("why", "").strip()[:500] or "no reason given"


def _as_text(value: bytes) -> str:
    """Return bytes as text, or in Python's notation if they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return repr(value)[2:-1]
