"""``crm replay``: have workers read orders of the stream again."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from service.cli.database import fail
from service.config import Config
from service.core.stream_ids import NO_ID, StreamId, before, write
from service.db.engine import create_engine
from service.db.operations import losses
from service.db.segments import outbox, recover
from service.local.state import with_local_stack
from service.streams import groups, redis_client
from service.streams.snapshot import take_snapshot

_PAGE = 5000


class Set(NamedTuple):
    """To where a stream was set back."""

    stream: str
    after: StreamId
    """Entries with greater ids will be read."""
    entries: int
    first: StreamId
    """The oldest entry that the stream still has."""


def replay(
    *,
    since: Annotated[
        str | None, typer.Option(help="From this moment on, such as 2026-11-22T10:00:00Z.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="From the oldest entry that the stream has.")
    ] = False,
) -> None:
    """Have workers read orders again; what was applied before changes nothing.

    Without an option: from where this database knows that all was applied, which is right after it
    was restored from a backup. Stop all workers before you restore; start them after this.
    """
    if since and everything:
        fail("--since and --all exclude each other.")
    taken_back, all_set = asyncio.run(
        _run(NO_ID if everything else _after(since) if since else None)
    )
    if taken_back:
        typer.echo(f"took back {taken_back:,} segment changes that were published")
    for done in all_set:
        which = f"{done.stream}: " if len(all_set) > 1 else ""
        typer.echo(f"{which}{done.entries:,} entries after {write(done.after)} will be read again")
        if done.first > done.after > NO_ID and since:
            typer.echo(
                f"The stream begins at {write(done.first)}; what was trimmed before must come from "
                "order management (`crm import`)."
            )


def _after(since: str) -> StreamId:
    try:
        moment = datetime.fromisoformat(since.upper())
    except ValueError:
        _not_a_moment(since)
    if moment.tzinfo is None:
        _not_a_moment(since)
    return before((int(moment.timestamp() * 1000), 0))


def _not_a_moment(since: str) -> NoReturn:
    fail(f"{since} is no moment with an offset; write 2026-11-22T10:00:00Z.")


async def _run(after: StreamId | None) -> tuple[int, list[Set]]:
    config = with_local_stack(Config.load())
    engine = create_engine(config.database_url or "", application="crm replay")
    redis = redis_client.configured(config)
    try:
        taken = await _take_back(engine, redis, config.changes_stream)
        return taken, await _set_all(engine, redis, config, after)
    finally:
        await redis.aclose()
        await engine.dispose()


async def _take_back(engine: AsyncEngine, redis: Redis, stream: str) -> int:
    async with engine.connect() as connection:
        if not await recover.is_older(connection, redis, stream):
            return 0
        if not await outbox.lead(connection):
            fail("a worker relays. This database is older than Redis: stop all workers first.")
        try:
            return await recover.take_back(engine, redis, stream)
        finally:
            await connection.invalidate()  # the lock goes with the connection


async def _set_all(
    engine: AsyncEngine, redis: Redis, config: Config, after: StreamId | None
) -> list[Set]:
    orders, group = config.orders_streams, config.orders_group
    known = dict[str, StreamId]()
    if after is None:
        async with engine.connect() as connection:
            known = await losses.acknowledged_ids(connection, orders, group)
        if not known:
            fail("this database has not looked at the stream yet; say --since or --all.")
    return [
        # Of a partition that it has not looked at, this database knows nothing.
        await _set(redis, name, group, known.get(name, NO_ID) if after is None else after)
        for name, _ in orders
    ]


async def _set(redis: Redis, stream: str, group: str, after: StreamId) -> Set:
    await groups.ensure_group(redis, stream, group)
    now = await take_snapshot(redis, stream, group)
    after = min(after, now.delivered)
    entries = await _count(redis, stream, after)
    raw: Any = redis
    await raw.xgroup_setid(stream, group, write(after), entries_read=now.added - entries)
    return Set(stream, after, entries, now.first)


async def _count(redis: Redis, stream: str, after: StreamId) -> int:
    entries, start = 0, f"({write(after)}"
    while page := await groups.read_range(redis, stream, start, "+", _PAGE):
        entries += len(page)
        start = f"({page[-1].id}"
    return entries
