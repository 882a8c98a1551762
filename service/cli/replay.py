"""``crm replay``: have the workers read orders from the stream again.

This reads the stream. Dead letters are no longer in the stream: `crm dead-letters replay` retries
them.
"""

import asyncio
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from service.cli.database import connected
from service.cli.output import AsJson, fail, print_json, say
from service.config import Config
from service.core.numbers import number_of
from service.core.stream_ids import NO_ID, StreamId, before, write
from service.db.operations import losses, recover
from service.local.state import with_local_stack
from service.streams import groups, redis_client
from service.streams.snapshot import take_snapshot
from service.streams.stream_info import count_after


class SetBack(NamedTuple):
    """A stream whose group was set back, so that its entries are read again."""

    stream: str
    after: StreamId
    """Entries with greater ids will be read again."""
    entries: int
    first: StreamId
    """The oldest entry that the stream still has."""


def replay(
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From this time on, such as 2026-11-22T10:00:00Z."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="From the oldest entry that the stream still has.")
    ] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Read orders from the stream again, after a restore.

    Events that were applied before change nothing. Without an option, reading starts after the last
    entry up to which this database has applied everything; that is right after a restore from a
    backup. Stop all workers before you restore, and start them after this command. If analytics
    has segment changes that this database has forgotten, run `crm recover` first.

    To retry dead letters, use `crm dead-letters replay`.
    """
    if since and everything:
        fail("--since and --all exclude each other.")
    streams = asyncio.run(_run(NO_ID if everything else _after(since) if since else None))
    if as_json:
        print_json(_document(streams))
        return
    for stream in streams:
        prefix = f"{stream.stream}: " if len(streams) > 1 else ""
        entries = number_of(stream.entries, "entry", "entries")
        say(f"{prefix}{entries} after {write(stream.after)} will be read again")
        if stream.first > stream.after > NO_ID and since:
            say(
                f"The stream begins at {write(stream.first)}; what was trimmed before must come "
                "from order management (`crm import`)."
            )


def _document(streams: list[SetBack]) -> dict[str, Any]:
    return {
        "streams": [
            {
                "stream": stream.stream,
                "afterId": write(stream.after),
                "entries": stream.entries,
                "firstId": write(stream.first),
            }
            for stream in streams
        ],
    }


def _after(since: str) -> StreamId:
    """Return the greatest id that an entry added before this time can have."""
    try:
        at = datetime.fromisoformat(since.upper())
    except ValueError:
        _not_a_time(since)
    if at.tzinfo is None:
        _not_a_time(since)
    return before((int(at.timestamp() * 1000), 0))


def _not_a_time(since: str) -> NoReturn:
    fail(f"--since: {since} is not a time with an offset; write it like 2026-11-22T10:00:00Z.")


async def _run(after: StreamId | None) -> list[SetBack]:
    config = with_local_stack(Config.load())
    async with (
        connected(config, "crm replay") as engine,
        aclosing(redis_client.configured(config)) as redis,
    ):
        async with engine.connect() as connection:
            if await recover.is_needed(connection, redis, config.changes_stream):
                fail(
                    f"{config.changes_stream} has segment changes that this database does not "
                    "know. Run `crm recover` first: it shows them, and takes back those that "
                    "were forgotten in a restore."
                )
        return await _set_all_back(engine, redis, config, after)


async def _set_all_back(
    engine: AsyncEngine, redis: Redis, config: Config, after: StreamId | None
) -> list[SetBack]:
    streams, group = config.orders_streams, config.orders_group
    acknowledged = dict[str, StreamId]()
    if after is None:
        async with engine.connect() as connection:
            acknowledged = await losses.acknowledged_ids(connection, streams, group)
        if not acknowledged:
            fail("this database does not know the stream yet: use --since or --all.")
    return [
        # A partition that this database does not know is read from its beginning.
        await _set_back(
            redis, name, group, acknowledged.get(name, NO_ID) if after is None else after
        )
        for name, _ in streams
    ]


async def _set_back(redis: Redis, stream: str, group: str, after: StreamId) -> SetBack:
    await groups.ensure_group(redis, stream, group)
    snapshot = await take_snapshot(redis, stream, group)
    after = min(after, snapshot.delivered)
    entries = await count_after(redis, stream, after)
    raw: Any = redis
    await raw.xgroup_setid(stream, group, write(after), entries_read=snapshot.added - entries)
    return SetBack(stream, after, entries, snapshot.first)
