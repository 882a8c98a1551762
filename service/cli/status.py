"""``crm status``: show what runs, where, and how much work is waiting."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any

import typer

from service.cli.database import connected
from service.cli.output import AsJson, ShowSecrets, print_facts, print_json, say
from service.config import Config, plain_url
from service.db.engine import DATABASE_AWAY
from service.db.operations import (
    dead_letter_removal,
    dead_letters,
    endpoints,
    foreign_entries,
    losses,
)
from service.db.operations.dead_letters import Selection
from service.db.operations.status import database_backlog
from service.db.operations.trimming import trims
from service.local.ports import address, reached_at
from service.local.state import read_state, with_local_stack
from service.server_trouble import why_away
from service.server_urls import masked
from service.streams import groups, redis_client

_UNKNOWN_WITHOUT_DATABASE = (
    "deadLetters",
    "refusedUpdates",
    "deadLetterBytes",
    "deadLettersDropped",
    "unpublished",
    "unpublishedRemovals",
    "oldestUnpublishedSeconds",
    "sweepOverdueSeconds",
    "losses",
    "lostEntries",
    "foreignRecords",
    "unknownChanges",
    "endpoints",
    "endpointsFailing",
    "endpointsPaused",
    "trimmingHeldBy",
)


def status(
    *,
    as_json: Annotated[bool, AsJson] = False,
    show_secrets: Annotated[bool, ShowSecrets] = False,
    redis_url: Annotated[
        bool,
        typer.Option(
            "--redis-url", help="Print only the URL of Redis, with its password, for a program."
        ),
    ] = False,
) -> None:
    """Show what runs, where, and how much work is waiting.

    Exit status 1 if PostgreSQL or Redis does not answer.
    """
    config = with_local_stack(Config.load())
    if redis_url:
        say(config.redis_url or "")
        return
    report = asyncio.run(read_status(config))
    if not show_secrets:
        report |= {name: masked(report[name]) for name in ("redisUrl", "databaseUrl")}
    if as_json:
        print_json(report)
    else:
        print_facts(list(_facts(report)))
    raise typer.Exit(0 if report["ok"] else 1)


async def read_status(config: Config) -> dict[str, Any]:
    """Ask both servers; return the report, with passwords.

    ``ok``: both answer. Unknown numbers are None.
    """
    local = read_state(config.data_dir)
    redis, database = await asyncio.gather(_from_redis(config), _from_database(config))
    return {
        "ok": redis["redis"] == database["database"] == "ok",
        "httpUrl": local.http_url if local else _http_url(config),
        "redisUrl": config.redis_url,
        "databaseUrl": plain_url(config.database_url or ""),
        "parts": local.parts if local else {},
        **redis,
        **database,
    }


def _http_url(config: Config) -> str:
    return f"http://{address(reached_at(config.http_host), config.http_port)}"


async def _from_redis(config: Config) -> dict[str, Any]:
    try:
        async with aclosing(redis_client.configured(config)) as redis:
            by_stream = await groups.backlogs(redis, config.orders_streams, config.orders_group)
    except redis_client.REDIS_ERRORS as error:
        return {"redis": f"away: {why_away(error)}", "lag": None, "pending": None}
    backlog = groups.add_up(by_stream)
    lag_by_stream = {name: part.lag for name, part in by_stream.items() if part.lag}
    return {
        "redis": "ok",
        "lag": backlog.lag,
        **({"lagOf": lag_by_stream} if len(by_stream) > 1 else {}),
        "pending": backlog.pending,
        "consumers": len(backlog.consumers),
    }


async def _from_database(config: Config) -> dict[str, Any]:
    try:
        async with connected(config, "crm status") as engine, engine.connect() as connection:
            work = await database_backlog(connection)
            updates = await dead_letters.count(connection, Selection(refused_update=True))
            kept = await dead_letter_removal.kept(connection)
            dropped = await dead_letter_removal.dropped_ever(connection)
            lost = await losses.summary(connection)
            foreign = await foreign_entries.summary(connection)
            trimmed = await trims(connection)
            sent_to = await endpoints.endpoints(connection)
    except DATABASE_AWAY as error:
        unknown = dict.fromkeys(_UNKNOWN_WITHOUT_DATABASE)
        return {"database": f"away: {why_away(error)}", **unknown}
    return {
        "database": "ok",
        "deadLetters": work.dead_letters,
        "refusedUpdates": updates,
        "deadLetterBytes": kept.bytes,
        "deadLettersDropped": dropped,
        "unpublished": work.unpublished,
        "unpublishedRemovals": work.unpublished_removals,
        "oldestUnpublishedSeconds": round(work.oldest_unpublished_seconds, 3),
        "sweepOverdueSeconds": round(work.sweep_overdue_seconds, 3),
        "losses": lost.open,
        "lostEntries": lost.entries,
        "foreignRecords": foreign.open,
        "unknownChanges": foreign.unknown,
        "endpoints": len(sent_to),
        "endpointsFailing": sum(each.state == "failing" for each in sent_to),
        "endpointsPaused": sum(each.state == "paused" for each in sent_to),
        "trimmingHeldBy": {it.stream: it.held_by for it in trimmed if it.held_by is not None},
    }


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the report for people: a name and its value."""

    def shown(name: str, unit: str = "") -> str:
        value = report[name]
        return "unknown" if value is None else f"{value:,}{unit}"

    yield "Dashboard and API", report["httpUrl"]
    yield "Redis", report["redis"]
    yield "Redis URL", report["redisUrl"]
    yield "Database", report["database"]
    yield "Database URL", report["databaseUrl"]
    for part, process in report["parts"].items():
        yield f"Process {part}", f"pid {process['pid'] or 'none, restarting'}, log {process['log']}"
    yield "Entries not read yet", shown("lag")
    for stream, lag in report.get("lagOf", {}).items():
        yield f"  in {stream}", f"{lag:,}"
    yield "Entries read, not applied yet", shown("pending")
    if "consumers" in report:
        yield "Workers known to Redis", shown("consumers")
    yield "Dead letters", shown("deadLetters")
    yield "Updates of known orders among them", shown("refusedUpdates")
    yield "Their content", shown("deadLetterBytes", " bytes")
    yield "Dead letters dropped so far", shown("deadLettersDropped")
    yield "Segment changes to publish", shown("unpublished")
    yield "Removed customers to publish", shown("unpublishedRemovals")
    yield "Oldest of them waits for", shown("oldestUnpublishedSeconds", " s")
    yield "Sweep overdue by", shown("sweepOverdueSeconds", " s")
    yield "Open losses", shown("losses")
    yield "Entries lost in them", shown("lostEntries")
    yield "Records of foreign entries", shown("foreignRecords")
    yield "Changes for `crm recover`", shown("unknownChanges")
    yield "Endpoints of webhooks", shown("endpoints")
    yield "Of them failing", shown("endpointsFailing")
    yield "Of them paused", shown("endpointsPaused")
    held = report["trimmingHeldBy"]
    yield (
        "Trimming held up by",
        "unknown"
        if held is None
        else ", ".join(f"{group} (in {stream})" for stream, group in held.items()) or "nobody",
    )
