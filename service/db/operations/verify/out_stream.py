"""The out-stream says what the history says (6).

Both are read page by page, by publish number, so memory does not grow with the shop.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.envelope import FASTSTREAM_FIELD, Entry
from service.core.stream_ids import LAST_SEQUENCE, write
from service.db.operations import foreign_entries
from service.db.operations.verify.findings import MOST_SHOWN, RESTORE, Fault, fault_if
from service.db.segments.outbox import OutboxChange, numbered_between, state
from service.db.segments.unknown_changes import read_tail
from service.streams import groups
from service.streams.entries import Limits, read_range

_PAGE = 2000
"""Entries of the out-stream that are read at once."""


async def out_stream_faults(engine: AsyncEngine, redis: Redis, stream: str) -> list[Fault]:
    """Compare the out-stream with the published changes of the database.

    Entries that were trimmed off its beginning are not missed.
    """
    async with engine.connect() as connection:
        last = (await state(connection)).published
    ends_at = await groups.last_number(redis, stream)
    short = [{"streamEndsAt": ends_at, "published": last}] if ends_at < last else []
    async with engine.connect() as connection:
        tail = await read_tail(connection, redis, stream, last, (last, 0))
        unknown = (await foreign_entries.summary(connection)).unknown + len(tail.unknown)
        recorded = await foreign_entries.records(connection, most=MOST_SHOWN, open_only=True)
    foreign, different = await _compare(engine, redis, stream, last)
    return [
        *fault_if(
            short,
            "the out-stream ends before what was published",
            "A worker's relay publishes again what Redis lost.",
        ),
        *fault_if(
            [{"unknownChanges": unknown}] if unknown else [],
            "the out-stream has changes that this database never published",
            "If it was restored from a backup, `crm recover` takes back what it had published. "
            "Otherwise somebody has forged them: `crm recover --discard`.",
        ),
        *fault_if(
            [
                {"record": each.id, "entries": each.entries, "fault": each.reason}
                for each in recorded
            ],
            "somebody else wrote to the out-stream, and nobody has acknowledged that",
            "Take the right to write away; then `crm foreign --acknowledge ID`.",
        ),
        *fault_if(
            foreign
            + [{"entry": write(each.entry.id), "fault": each.reason} for each in tail.foreign],
            "the out-stream has an entry that is no segment change of ours",
            "Somebody else writes to the stream: take the right away. Subscribers skip such "
            "entries; the stream's trimming removes them.",
        ),
        *fault_if(
            different,
            "the out-stream and the history do not say the same",
            f"The stream has what subscribers were told. {RESTORE}",
        ),
    ]


async def _compare(
    engine: AsyncEngine, redis: Redis, stream: str, last: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the entries that are no changes of ours, and where stream and history differ."""
    foreign: list[dict[str, Any]] = []
    different: list[dict[str, Any]] = []
    read_to: int | None = None
    while len(foreign) < MOST_SHOWN and len(different) < MOST_SHOWN:
        start = "-" if read_to is None else f"({read_to}-{LAST_SEQUENCE}"
        page = await read_range(redis, stream, start, f"{last}-{LAST_SEQUENCE}", Limits(_PAGE))
        oldest = await read_range(redis, stream, "-", "+", Limits(1))
        if read_to is None or not oldest or oldest[0].milliseconds > read_to + 1:
            # This is the first page, or the stream was trimmed beyond what we have read. Entries
            # between two pages may then be gone, so the comparison goes on with this page.
            if not page:
                break
            read_to = page[0].milliseconds - 1
        # Behind the last entry, a page of the changes that are missing shows enough of them.
        ends = page[-1].milliseconds if page else min(last, read_to + _PAGE)
        async with engine.connect() as connection:
            changes = await numbered_between(connection, read_to, ends, max(0, ends - read_to))
        found = _differences(page, changes)
        foreign += found[0]
        different += found[1]
        if not page:
            break
        read_to = ends
    return foreign[:MOST_SHOWN], different[:MOST_SHOWN]


def _differences(
    page: Sequence[Entry], changes: Sequence[OutboxChange]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare a page of the stream with the changes that have its publish numbers."""
    foreign, different = list[dict[str, Any]](), list[dict[str, Any]]()
    missing = {f"{change.number}-0": change for change in changes}
    for entry in page:
        change = missing.pop(entry.id, None)
        if change and entry.fields.get(FASTSTREAM_FIELD) == change.body:
            continue
        document = _read(entry)
        if document is None:
            foreign.append({"entry": entry.id, "fault": "not a segment change"})
        elif change is None:
            foreign.append({"entry": entry.id, "fault": "not in the history", **_named(document)})
        elif fields := _differing(document, orjson.loads(change.body)):
            different.append({"entry": entry.id, **_named(document), **fields})
    different += [
        {"entry": id_, **_named(orjson.loads(change.body)), "fault": "not in the stream"}
        for id_, change in missing.items()
    ]
    return foreign, different


def _read(entry: Entry) -> dict[str, Any] | None:
    """Return the document of an entry; None if it is not of the form of a segment change."""
    try:
        document = orjson.loads(entry.fields[FASTSTREAM_FIELD])
        _named(document)
    except (KeyError, TypeError, ValueError):
        return None
    return dict(document)


def _named(document: Mapping[str, Any]) -> dict[str, Any]:
    data = document["data"]
    return {"customer": data["customerId"], "sequence": data["sequence"]}


def _differing(published: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a published change that the history has otherwise: [stream, history].

    A release may add fields, so an old entry has fewer of them.
    """
    sides = (
        (published, stored, published.keys() - {"data"}),
        (published["data"], stored["data"], published["data"].keys()),
    )
    return {
        name: [one.get(name), other.get(name)]
        for one, other, names in sides
        for name in sorted(names)
        if one.get(name) != other.get(name)
    }
