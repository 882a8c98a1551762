"""``/api/v1/dead-letters``: entries that were refused. List them, open one."""

import base64
import codecs
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from service.core.json_values import camel
from service.core.numbers import whole_number
from service.core.order_event import Reason
from service.core.scopes import Scope
from service.db.operations import dead_letters
from service.db.operations.dead_letters import (
    Letter,
    NoSuchLetterError,
    Selection,
    StoredField,
)
from service.db.store_clock import read_store_clock
from service.http.api.cursors import Limit
from service.http.api.date_ranges import day_or_moment
from service.http.api.models import Camel, Collection, collection
from service.http.auth.guard import Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"], responses=DOCUMENTED)

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such dead letter; perhaps it was replayed."}
}
_MOST_PLACES = 1_000_000
_BINARY = "application/octet-stream"
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            _BINARY: {"schema": {"type": "string", "format": "binary"}, "example": '{"id": "e-1"}'}
        },
        "description": "The bytes of the value.",
    }
}
_LETTER: JsonDict = {
    "id": "17",
    "streamId": "1795341600000-0",
    "partition": None,
    "reason": "invalid_amount",
    "error": "`data.totalAmount` must not be negative",
    "attempts": 1,
    "firstSeen": "2026-11-22T10:00:00Z",
    "lastSeen": "2026-11-22T10:00:00Z",
    "size": 612,
    "stored": 612,
    "orderId": "ORD-1001",
    "refusedUpdate": True,
}


class DeadLetter(Camel):
    """An entry that was refused, without its fields."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LETTER]})

    id: str
    stream_id: str = Field(description="The id of the entry in its stream.")
    partition: int | None = Field(
        description="The partition it was read from: 3 is `orders:{3}`, null is `orders`."
    )
    reason: Reason
    error: str = Field(description="What is wrong, for the publisher's developer.")
    attempts: int
    first_seen: datetime
    last_seen: datetime
    size: int | None = Field(
        description="Bytes of all fields together, as they were published. Null for a moment after "
        "an upgrade: not measured yet."
    )
    stored: int | None = Field(
        description="How many of these bytes are stored. If fewer than `size`, the entry was too "
        "large or an erasure emptied it, and it cannot be replayed."
    )
    order_id: str | None = Field(
        description="The order that the entry tells of. Null: it cannot be read, or a worker has "
        "not looked yet."
    )
    refused_update: bool = Field(
        description="The entry is an update of an order that is known, and newer than its state. "
        "So the order may be in an older state until the entry is replayed, or a later event comes."
    )


class DeadLetters(Collection):
    """A page of dead letters."""

    items: list[DeadLetter]


class LetterField(Camel):
    """A field of the entry, up to 1 MiB of all fields; `/fields/{place}` has the whole value."""

    name: str | None = Field(description="Null if it is not UTF-8.")
    name_base64: str
    value: str | None = Field(description="Null if it is not UTF-8.")
    value_base64: str
    size: int


class OpenedDeadLetter(DeadLetter):
    """A dead letter with its fields."""

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
        description="They may hold personal data: null without the scope `write` or `admin`."
    )


class ReasonCount(Camel):
    """The dead letters of one reason."""

    reason: Reason
    count: int
    first_seen: datetime
    last_seen: datetime


class Summary(Collection):
    """One item for each reason that occurs, the most frequent first."""

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


def letter_number(letter_id: Annotated[str, Path(alias="id", examples=["17"])]) -> int:
    """Return the number in the path. Raises the problem 404 if it is not a number."""
    number = whole_number(letter_id)
    if number is None:
        raise not_found()
    return number


async def selection(
    request: Request,
    reason: Annotated[Reason | None, Query(description="Only those with this reason.")] = None,
    before: Annotated[
        str | None,
        Query(
            max_length=40,
            description="Only those that were first seen before this time, or before this day of "
            "the store's time zone.",
            examples=["2026-11-22T10:00:00Z"],
        ),
    ] = None,
    refused_update: Annotated[
        bool | None,
        Query(
            alias="refusedUpdate",
            description="Only refused updates of known orders (true), or only the others (false).",
        ),
    ] = None,
) -> Selection:
    """Return the dead letters that a query selects."""
    seen_before = await first_seen_before(request, before)
    return Selection(reason and reason.value, seen_before, refused_update)


async def first_seen_before(request: Request, written: str | None) -> datetime | None:
    """Read a day of the store or a moment; None for None. Raises a problem for anything else."""
    bound = day_or_moment(written, "query.before")
    if bound is None or bound.moment is not None:
        return bound and bound.moment
    async with snapshot(request) as connection:
        return bound.start((await read_store_clock(connection)).zone)


Selected = Annotated[Selection, Depends(selection)]
LetterNumber = Annotated[int, Depends(letter_number)]
LetterCursor = Annotated[str | None, Query(pattern=r"^\d{1,18}$")]


@router.get("", response_model=DeadLetters)
async def list_dead_letters(
    request: Request,
    _: Reader,
    selected: Selected,
    limit: Limit = 50,
    cursor: LetterCursor = None,
) -> Response:
    """List dead letters, the newest first, without their fields."""
    older_than = int(cursor) if cursor else None
    async with snapshot(request) as connection:
        letters, total = await dead_letters.find(connection, selected, limit + 1, older_than)
    shown = letters[:limit]
    next_cursor = str(shown[-1].id) if len(letters) > limit else None
    return Json(collection([_letter(letter) for letter in shown], total, next_cursor))


@router.get("/summary", response_model=Summary)
async def summarize_dead_letters(request: Request, _: Reader) -> Response:
    """Count dead letters by reason."""
    async with snapshot(request) as connection:
        tallies = await dead_letters.summary(connection)
    return Json(
        collection(
            [
                {
                    "reason": tally.reason,
                    "count": tally.letters,
                    "firstSeen": tally.first_seen,
                    "lastSeen": tally.last_seen,
                }
                for tally in tallies
            ]
        )
    )


@router.get("/{id}", response_model=OpenedDeadLetter, responses=NOT_FOUND)
async def read_dead_letter(request: Request, actor: Reader, number: LetterNumber) -> Response:
    """Read a dead letter. Its fields need the scope `write` or `admin`."""
    letter, fields = await open_letter(request, number)
    shown = bool(actor.scopes & {Scope.WRITE, Scope.ADMIN})
    return Json(
        _letter(letter) | {"fields": [_field(field) for field in fields] if shown else None}
    )


@router.get("/{id}/fields/{place}", response_class=Response, responses=NOT_FOUND | _BYTES)
async def read_dead_letter_field(
    request: Request,
    _: Writer,
    number: LetterNumber,
    place: Annotated[
        str, Path(description="Its position in `fields`. The first is 0.", examples=["0"])
    ],
) -> Response:
    """Download a value with every byte that is stored, however large it is."""
    position = whole_number(place)
    async with snapshot(request) as connection:
        value = (
            None
            if position is None or position > _MOST_PLACES
            else await dead_letters.read_value(connection, number, position)
        )
    if value is None:
        raise not_found()
    # The value may look like HTML or a script. As a download of bytes, no browser runs it.
    headers = {"Content-Disposition": f'attachment; filename="dead-letter-{number}-{place}.bin"'}
    return Response(value, media_type=_BINARY, headers=headers)


async def open_letter(
    request: Request, number: int, shown_bytes: int | None = None
) -> tuple[Letter, Sequence[StoredField]]:
    """Return a dead letter and its fields. Raises the problem 404 if there is none."""
    async with snapshot(request) as connection:
        try:
            return await dead_letters.read(connection, number, shown_bytes)
        except NoSuchLetterError:
            raise not_found() from None


def not_found() -> ProblemError:
    """Return the problem for a dead letter that does not exist."""
    detail = "There is no dead letter with this id; perhaps it was replayed, discarded or dropped."
    return ProblemError(404, "Dead letter not found", detail)


def _letter(letter: Letter) -> dict[str, Any]:
    return camel(letter._asdict()) | {"id": str(letter.id)}


def _field(field: StoredField) -> dict[str, Any]:
    return {
        "name": _text(field.name, len(field.name)),
        "nameBase64": base64.b64encode(field.name).decode(),
        "value": _text(field.value, field.size),
        "valueBase64": base64.b64encode(field.value).decode(),
        "size": field.size,
    }


def _text(value: bytes, size: int) -> str | None:
    """Return bytes as text; None if not UTF-8. A cut value may end within a character."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(value, final=len(value) == size)
    except UnicodeDecodeError:
        return None
