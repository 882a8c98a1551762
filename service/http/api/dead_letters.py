"""``/api/v1/dead-letters``: what the contract refused, to be looked at, replayed or discarded."""

import base64
import codecs
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.batch import Outcome
from service.core.numbers import whole_number
from service.core.order_event import Reason
from service.core.scopes import Scope
from service.db.engine import in_transaction
from service.db.operations import dead_letters
from service.db.operations.dead_letters import Letter, NoSuchLetterError, ReplayResult, StoredField
from service.http.api.schemas import Camel, Collection
from service.http.auth.guard import Admin, Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"], responses=DOCUMENTED)

_MOST_REPLAYED = 10_000
_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such dead letter; perhaps it was replayed."}
}
_BINARY = "application/octet-stream"
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            _BINARY: {"schema": {"type": "string", "format": "binary"}, "example": '{"id": "e-1"}'}
        },
        "description": "The bytes.",
    }
}
_LETTER: JsonDict = {
    "id": "17",
    "streamId": "1795341600000-0",
    "partition": None,
    "reason": "currency_mismatch",
    "error": "`data.currency` is 'EUR', but this store adds up USD only",
    "attempts": 1,
    "firstSeen": "2026-11-22T10:00:00Z",
    "lastSeen": "2026-11-22T10:00:00Z",
    "size": 612,
}


class DeadLetter(Camel):
    """An entry that was refused, without what it holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LETTER]})

    id: str
    stream_id: str = Field(description="its id in the stream that it was read from")
    partition: int | None = Field(
        description="3: that is `orders:{3}`; null: `orders`, which is not partitioned"
    )
    reason: Reason
    error: str = Field(description="a sentence for the publisher's developer")
    attempts: int
    first_seen: datetime
    last_seen: datetime
    size: int = Field(description="bytes in all fields together")


class DeadLetters(Collection):
    """A page of dead letters."""

    items: list[DeadLetter]


class LetterField(Camel):
    """A field of the entry. Of a large value, its first MiB; all of it: `/fields/{place}`."""

    name: str | None = Field(description="null when it is not UTF-8")
    name_base64: str
    value: str | None = Field(description="null when it is not UTF-8")
    value_base64: str
    size: int


class OpenedDeadLetter(DeadLetter):
    """A dead letter and what it holds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_LETTER,
                    "fields": [
                        {
                            "name": "data",
                            "nameBase64": "ZGF0YQ==",
                            "value": "{}",
                            "valueBase64": "e30=",
                            "size": 2,
                        }
                    ],
                }
            ]
        }
    )

    fields: list[LetterField] | None = Field(
        description="null without the scope `write` or `admin`: there may be personal data in it"
    )


class ReasonCount(Camel):
    """The dead letters of one reason."""

    reason: Reason
    count: int
    first_seen: datetime
    last_seen: datetime


class Summary(Collection):
    """One item per reason that there is, the most frequent first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [{"reason": "invalid_amount", "count": 3}],
                    "total": 1,
                    "nextCursor": None,
                }
            ]
        }
    )

    items: list[ReasonCount]


class ReplayedLetter(Camel):
    """What replaying one came to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "17", "outcome": "applied", "removed": True, "reason": None, "error": None}
            ]
        }
    )

    id: str
    outcome: Outcome = Field(
        description="`applied`; `stale` or `duplicate`: newer or the same was known already; "
        "`dead_lettered`: refused again"
    )
    removed: bool = Field(description="accepted, so that it is no dead letter any more")
    reason: Reason | None
    error: str | None


class ReplayedLetters(Camel):
    """What replaying many came to."""

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
    refused: dict[Reason, int] = Field(description="those that stay, by their reason now")
    next_cursor: str | None = Field(description="there are more; ask again with this `cursor`")


def letter_number(letter_id: Annotated[str, Path(alias="id", examples=["17"])]) -> int:
    """Read an id; what cannot be one is not found."""
    number = whole_number(letter_id)
    if number is None:
        raise not_found()
    return number


LetterNumber = Annotated[int, Depends(letter_number)]
Cursor = Annotated[str | None, Query(pattern=r"^\d{1,18}$")]


@router.get("", response_model=DeadLetters)
async def list_dead_letters(
    request: Request,
    _: Reader,
    reason: Annotated[Reason | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Cursor = None,
) -> Response:
    """List dead letters, the newest first, without what they hold."""
    async with snapshot(request) as connection:
        found, total = await dead_letters.find(
            connection, reason and reason.value, limit + 1, int(cursor) if cursor else None
        )
    shown = found[:limit]
    return Json(
        {
            "items": [_letter(letter) for letter in shown],
            "total": total,
            "nextCursor": str(shown[-1].id) if len(found) > limit else None,
        }
    )


@router.get("/summary", response_model=Summary)
async def summarize_dead_letters(request: Request, _: Reader) -> Response:
    """Count dead letters by reason."""
    async with snapshot(request) as connection:
        tallies = await dead_letters.summary(connection)
    items = [
        {
            "reason": tally.reason,
            "count": tally.letters,
            "firstSeen": tally.first_seen,
            "lastSeen": tally.last_seen,
        }
        for tally in tallies
    ]
    return Json({"items": items, "total": len(items), "nextCursor": None})


@router.get("/{id}", response_model=OpenedDeadLetter, responses=_NOT_FOUND)
async def read_dead_letter(request: Request, actor: Reader, number: LetterNumber) -> Response:
    """Look at one. What it holds is shown to who may write or administer."""
    async with snapshot(request) as connection:
        try:
            letter, parts = await dead_letters.read(connection, number)
        except NoSuchLetterError:
            raise not_found() from None
    opened = bool(actor.scopes & {Scope.WRITE, Scope.ADMIN})
    return Json(_letter(letter) | {"fields": [_field(part) for part in parts] if opened else None})


@router.get("/{id}/fields/{place}", response_class=Response, responses=_NOT_FOUND | _BYTES)
async def read_dead_letter_field(
    request: Request,
    _: Writer,
    number: LetterNumber,
    place: Annotated[str, Path(description="its place in `fields`, from 0", examples=["0"])],
) -> Response:
    """Take one of its values as it was published: every byte, however large."""
    async with snapshot(request) as connection:
        try:
            _found, parts = await dead_letters.read(connection, number, dead_letters.WHOLE)
            value = {str(at): part.value for at, part in enumerate(parts)}[place]
        except (NoSuchLetterError, KeyError):
            raise not_found() from None
    # Never shown as what it may pretend to be.
    headers = {"Content-Disposition": f'attachment; filename="dead-letter-{number}-{place}.bin"'}
    return Response(value, media_type=_BINARY, headers=headers)


@router.post("/replay", response_model=ReplayedLetters)
async def replay_dead_letters(
    request: Request,
    actor: Writer,
    reason: Annotated[Reason, Query(description="all of this reason")],
    cursor: Cursor = None,
) -> Response:
    """Replay all dead letters of a reason, the oldest first; at most 10,000 per request.

    Each is judged again and, if it is accepted now, applied and removed in one transaction.
    """
    state = state_of(request)
    replayed, after = await dead_letters.replay_all(
        state.engine,
        actor.name,
        reason.value,
        state.config.terms,
        after=int(cursor or 0),
        most=_MOST_REPLAYED,
    )
    return Json(_replayed(replayed) | {"nextCursor": after and str(after)})


@router.post("/{id}/replay", response_model=ReplayedLetter, responses=_NOT_FOUND)
async def replay_dead_letter(request: Request, actor: Writer, number: LetterNumber) -> Response:
    """Judge one again and, if it is accepted now, apply and remove it in one transaction."""
    state = state_of(request)
    terms = state.config.terms
    replayed = await dead_letters.replay(state.engine, actor.name, [number], terms)
    if not replayed.letters:
        raise not_found()
    refusal = replayed.refused.get(number)
    return Json(
        {
            "id": str(number),
            "outcome": Outcome.DEAD_LETTERED if refusal else next(iter(replayed.accepted)),
            "removed": refusal is None,
            "reason": refusal and refusal.reason,
            "error": refusal and refusal.message,
        }
    )


@router.delete("/{id}", status_code=204, responses=_NOT_FOUND)
async def discard_dead_letter(
    request: Request,
    actor: Admin,
    number: LetterNumber,
    reason: Annotated[
        str, Query(min_length=1, max_length=500, pattern=r"[^\s\x00]", description="why, in words")
    ],
) -> Response:
    """Throw one away. Who did it, why and the reason code stay in the audit, nothing of it else."""

    async def work(connection: AsyncConnection) -> None:
        await dead_letters.discard(connection, actor.name, number, reason.replace("\x00", ""))

    try:
        await in_transaction(state_of(request).engine, work)
    except NoSuchLetterError:
        raise not_found() from None
    return Response(status_code=204)


def not_found() -> ProblemError:
    """Say that there is no such dead letter."""
    detail = "No dead letter has this id; perhaps it was replayed or discarded."
    return ProblemError(404, "Dead letter not found", detail)


def _letter(letter: Letter) -> dict[str, Any]:
    return {
        "id": str(letter.id),
        "streamId": letter.stream_id,
        "partition": letter.partition,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "firstSeen": letter.first_seen,
        "lastSeen": letter.last_seen,
        "size": letter.size,
    }


def _field(part: StoredField) -> dict[str, Any]:
    return {
        "name": _text(part.name, len(part.name)),
        "nameBase64": base64.b64encode(part.name).decode(),
        "value": _text(part.value, part.size),
        "valueBase64": base64.b64encode(part.value).decode(),
        "size": part.size,
    }


def _text(value: bytes, size: int) -> str | None:
    """Read UTF-8; a value that is cut may end amid a character."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(value, final=len(value) == size)
    except UnicodeDecodeError:
        return None


def _replayed(replayed: ReplayResult) -> dict[str, Any]:
    refused: dict[str, int] = {}
    for refusal in replayed.refused.values():
        refused[refusal.reason.value] = refused.get(refusal.reason.value, 0) + 1
    outcomes = {outcome.value: count for outcome, count in replayed.accepted.items()}
    if replayed.refused:
        outcomes[Outcome.DEAD_LETTERED.value] = len(replayed.refused)
    return {
        "replayed": replayed.letters,
        "removed": replayed.accepted.total(),
        "outcomes": outcomes,
        "refused": refused,
    }
