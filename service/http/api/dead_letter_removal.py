"""Discard dead letters: one, or all of a reason and an age. The audit log keeps who and why."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.scopes import Actor
from service.db.engine import in_transaction
from service.db.operations import dead_letter_removal, dead_letters
from service.db.operations.dead_letters import NoSuchLetterError, Selection
from service.http.api.dead_letters import NOT_FOUND, LetterNumber, Selected, not_found
from service.http.api.models import Camel
from service.http.auth.guard import Admin
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"], responses=DOCUMENTED)

_MOST_DISCARDED = 10_000

Why = Annotated[
    str,
    Query(
        min_length=1,
        max_length=500,
        pattern=r"[^\s\x00]",
        description="Why you discard them, in words. The audit log keeps it.",
    ),
]


class DiscardedLetters(Camel):
    """The result of discarding many dead letters."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"discarded": 120, "remaining": 0}]})

    discarded: int
    remaining: int = Field(
        description="How many are still selected. If not 0, repeat the request to discard more."
    )


@router.post("/discard", response_model=DiscardedLetters)
async def discard_dead_letters(
    request: Request,
    actor: Admin,
    selected: Selected,
    why: Why,
    *,
    dry_run: Annotated[
        bool, Query(alias="dryRun", description="Only count them: `remaining` says how many.")
    ] = False,
) -> Response:
    """Discard the dead letters of a reason, or first seen before a time, or both.

    At most 10,000 per request, the oldest first. One of `reason` and `before` is required.
    """
    if selected == Selection():
        message = "is missing, and so is `before`; say which dead letters you mean"
        raise invalid("query.reason", message)
    discarded = 0 if dry_run else await discard_selected(request, actor, selected, why)
    async with snapshot(request) as connection:
        remaining = await dead_letters.count(connection, selected)
    answer: dict[str, Any] = {"discarded": discarded, "remaining": remaining}
    return Json(answer)


@router.delete("/{id}", status_code=204, responses=NOT_FOUND)
async def discard_dead_letter(
    request: Request, actor: Admin, number: LetterNumber, why: Why
) -> Response:
    """Discard a dead letter. The audit log keeps your name, why, and the reason code."""
    await discard(request, actor, number, why)
    return Response(status_code=204)


async def discard_selected(request: Request, actor: Actor, selected: Selection, why: str) -> int:
    """Discard the oldest of the selected dead letters; return how many."""
    return await dead_letter_removal.discard_all(
        state_of(request).engine, actor.name, selected, _storable(why), most=_MOST_DISCARDED
    )


async def discard(request: Request, actor: Actor, number: int, why: str) -> None:
    """Discard a dead letter. Raises the problem 404 if there is none."""
    try:
        await in_transaction(
            state_of(request).engine,
            dead_letter_removal.discard,
            actor.name,
            number,
            _storable(why),
        )
    except NoSuchLetterError:
        raise not_found() from None


def _storable(why: str) -> str:
    return why.replace("\x00", "")
