"""The out-streams say what the database says (6).

A consumer of both of them ends with exactly the customers and segments that there are. Streams and
tables are read page by page, by publish number, so memory does not grow with the shop.
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
from service.db.out_stream_tail import OutStream, read_tail
from service.db.outbox import Outbox, OutboxEvent
from service.streams import groups
from service.streams.entries import Limits, read_range

_PAGE = 2000
"""Entries of the out-stream that are read at once."""
_MOST_EVENTS = 5 * _PAGE
"""Events that are compared with one page. There are more only if the stream lacks them."""


async def out_stream_faults(
    engine: AsyncEngine, redis: Redis, streams: Sequence[OutStream]
) -> list[Fault]:
    """Compare the out-streams with what the database has published.

    Entries that were trimmed off the beginning of a stream are not missed.
    """
    faults = [fault for each in streams for fault in await _stream_faults(engine, redis, each)]
    async with engine.connect() as connection:
        records = await foreign_entries.records(connection, most=MOST_SHOWN, open_only=True)
    return faults + fault_if(
        [{"record": each.id, "entries": each.entries, "fault": each.reason} for each in records],
        "somebody else wrote to a stream, and nobody has acknowledged that",
        "Take the right away, then `crm foreign --acknowledge ID`.",
    )


async def _stream_faults(engine: AsyncEngine, redis: Redis, stream: OutStream) -> list[Fault]:
    name, outbox = stream
    async with engine.connect() as connection:
        last = (await outbox.state(connection)).published
    ends_at = await groups.last_number(redis, name)
    short = [{"streamEndsAt": ends_at, "published": last}] if ends_at < last else []
    foreign, different = await _compare(engine, redis, stream, last)
    async with engine.connect() as connection:
        tail = await read_tail(connection, redis, stream, last, (last, 0))
        unknown = len(tail.unknown)
        if outbox.keep:
            unknown += (await foreign_entries.summary(connection)).unknown
    foreign += [{"entry": write(each.entry.id), "fault": each.reason} for each in tail.foreign]
    return [
        *fault_if(
            short,
            f"the stream {name} ends before what was published",
            "A worker's relay publishes again what Redis lost.",
        ),
        *fault_if(
            [{"unknownEntries": unknown}] if unknown else [],
            f"the stream {name} has entries that this database never published",
            outbox.on_unknown,
        ),
        *fault_if(
            foreign[:MOST_SHOWN],
            f"the stream {name} has an entry that is no {outbox.event} of ours",
            "Somebody else writes to the stream: take the right away. A worker's relay removes it.",
        ),
        *fault_if(
            different,
            f"the stream {name} and the database do not say the same",
            f"The stream has what subscribers were told. {RESTORE}",
        ),
    ]


async def _compare(
    engine: AsyncEngine, redis: Redis, stream: OutStream, last: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the entries that are no events of ours, and where stream and database differ."""
    foreign: list[dict[str, Any]] = []
    different: list[dict[str, Any]] = []
    read_to: int | None = None
    while len(foreign) < MOST_SHOWN and len(different) < MOST_SHOWN:
        start = "-" if read_to is None else f"({read_to}-{LAST_SEQUENCE}"
        page = await read_range(redis, stream.name, start, f"{last}-{LAST_SEQUENCE}", Limits(_PAGE))
        oldest = await read_range(redis, stream.name, "-", "+", Limits(1))
        if read_to is None or not oldest or oldest[0].milliseconds > read_to + 1:
            # This is the first page, or the stream was trimmed beyond what we have read. Entries
            # between two pages may then be gone, so the comparison goes on with this page.
            if not page:
                break
            read_to = page[0].milliseconds - 1
        # Behind the last entry, a page of the events that are missing shows enough of them.
        ends = page[-1].milliseconds if page else min(last, read_to + _PAGE)
        async with engine.connect() as connection:
            events = await stream.outbox.numbered_between(connection, read_to, ends, _MOST_EVENTS)
        found = _differences(stream.outbox, page, events)
        foreign += found[0]
        different += found[1]
        if not page:
            break
        read_to = ends
    return foreign[:MOST_SHOWN], different[:MOST_SHOWN]


def _differences(
    outbox: Outbox[Any], page: Sequence[Entry], events: Sequence[OutboxEvent]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare a page of the stream with the events that have its publish numbers."""
    foreign, different = list[dict[str, Any]](), list[dict[str, Any]]()
    missing = {f"{event.number}-0": event for event in events}
    for entry in page:
        event = missing.pop(entry.id, None)
        if event and entry.fields.get(FASTSTREAM_FIELD) == event.body:
            continue
        document = _read(entry)
        if document is None:
            foreign.append({"entry": entry.id, "fault": f"not a {outbox.event}"})
        elif event is None:
            foreign.append({"entry": entry.id, "fault": "not in the database", **_named(document)})
        elif fields := _differing(document, orjson.loads(event.body)):
            different.append({"entry": entry.id, **_named(document), **fields})
    different += [
        {"entry": id_, **_named(orjson.loads(event.body)), "fault": "not in the stream"}
        for id_, event in missing.items()
    ]
    return foreign, different


def _read(entry: Entry) -> dict[str, Any] | None:
    """Return the document of an entry; None if it has not the form of an event of ours."""
    try:
        document = orjson.loads(entry.fields[FASTSTREAM_FIELD])
        _named(document)
    except (KeyError, TypeError, ValueError):
        return None
    return dict(document)


def _named(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event is about. Raises KeyError or TypeError if it does not say so."""
    data = document["data"]
    sequence = {"sequence": data["sequence"]} if "sequence" in data else {}
    return {"customer": data["customerId"], **sequence}


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
