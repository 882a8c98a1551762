"""``/api/v1/dead-letters/…/replay``: judge dead letters again after their cause was fixed."""

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.batch import Outcome
from service.core.order_event import Reason
from service.core.scopes import Actor
from service.db.operations import dead_letter_replay
from service.db.operations.dead_letter_replay import ReplayResult
from service.http.api.dead_letters import NOT_FOUND, LetterCursor, LetterNumber, not_found
from service.http.api.models import Camel
from service.http.auth.guard import Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import state_of

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"], responses=DOCUMENTED)

_MOST_REPLAYED = 10_000


class ReplayedLetter(Camel):
    """The result of replaying one dead letter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "17", "outcome": "applied", "removed": True, "reason": None, "error": None}
            ]
        }
    )

    id: str
    outcome: Outcome = Field(
        description="`applied`: accepted. `stale`: accepted, but a newer event was known already. "
        "`duplicate`: accepted, but it was known already. `dead_lettered`: refused again."
    )
    removed: bool = Field(
        description="True if it was accepted, so that it is no longer a dead letter."
    )
    reason: Reason | None
    error: str | None


class ReplayedLetters(Camel):
    """The result of replaying many dead letters."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "replayed": 120,
                    "removed": 118,
                    "outcomes": {"applied": 110, "stale": 8, "dead_lettered": 2},
                    "refused": {"invalid_amount": 2},
                    "nextCursor": None,
                }
            ]
        }
    )

    replayed: int
    removed: int
    outcomes: dict[Outcome, int]
    refused: dict[Reason, int] = Field(
        description="How many were refused again, by their new reason."
    )
    next_cursor: str | None = Field(
        description="Null if all were replayed. Otherwise repeat the request with this `cursor`."
    )


@router.post("/replay", response_model=ReplayedLetters)
async def replay_dead_letters(
    request: Request,
    actor: Writer,
    reason: Annotated[Reason, Query(description="Replays all dead letters of this reason.")],
    cursor: LetterCursor = None,
) -> Response:
    """Replay all dead letters of a reason, the oldest first, at most 10,000 per request.

    Each is judged again. If it is accepted now, it is applied and removed in one transaction.
    """
    state = state_of(request)
    replayed, after = await dead_letter_replay.replay_all(
        state.engine,
        actor.name,
        reason.value,
        state.config.terms,
        after=int(cursor or 0),
        most=_MOST_REPLAYED,
    )
    outcomes = {outcome.value: count for outcome, count in replayed.accepted.items()}
    if replayed.refused:
        outcomes[Outcome.DEAD_LETTERED.value] = len(replayed.refused)
    return Json(
        {
            "replayed": replayed.letters,
            "removed": replayed.accepted.total(),
            "outcomes": outcomes,
            "refused": Counter(refusal.reason.value for refusal in replayed.refused.values()),
            "nextCursor": after and str(after),
        }
    )


@router.post("/{id}/replay", response_model=ReplayedLetter, responses=NOT_FOUND)
async def replay_dead_letter(request: Request, actor: Writer, number: LetterNumber) -> Response:
    """Judge a dead letter again. If it is accepted now, apply and remove it in one transaction."""
    replayed = await replay_one(request, actor, number)
    refusal = replayed.refused.get(number)
    answer: dict[str, Any] = {
        "id": str(number),
        "outcome": Outcome.DEAD_LETTERED if refusal else next(iter(replayed.accepted)),
        "removed": refusal is None,
        "reason": refusal and refusal.reason,
        "error": refusal and refusal.message,
    }
    return Json(answer)


async def replay_one(request: Request, actor: Actor, number: int) -> ReplayResult:
    """Replay one dead letter. Raises the problem 404 if there is none."""
    state = state_of(request)
    replayed = await dead_letter_replay.replay(
        state.engine, actor.name, [number], state.config.terms
    )
    if not replayed.letters:
        raise not_found()
    return replayed
