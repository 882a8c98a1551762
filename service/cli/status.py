"""``crm status``: what runs and where, and what waits."""

from typing import Any

from rich.console import Console
from rich.table import Table

from service.config import Config
from service.db.engine import DATABASE_AWAY, create_engine
from service.db.operations import losses, status
from service.db.operations.trimming import trims
from service.local.state import read_state
from service.streams import groups, redis_client


async def read_status(config: Config) -> dict[str, Any]:
    """Ask the servers; ``ok`` tells whether both answered. Unknown numbers are None."""
    local = read_state(config.data_dir)
    report: dict[str, Any] = {
        "ok": True,
        "httpUrl": local.http_url if local else f"http://{config.http_host}:{config.http_port}",
        "redisUrl": config.redis_url,
        "databaseUrl": (config.database_url or "").replace("+asyncpg", "", 1),
        "parts": local.parts if local else {},
    }
    found = await _from_redis(config, report)
    found |= await _from_database(config, report)
    return report | found


async def _from_redis(config: Config, report: dict[str, Any]) -> dict[str, Any]:
    redis = redis_client.configured(config)
    try:
        each = await groups.backlogs(redis, config.orders_streams, config.orders_group)
    except redis_client.REDIS_ERRORS as error:
        report["ok"] = False
        return {"redis": f"away: {type(error).__name__}", "lag": None, "pending": None}
    finally:
        await redis.aclose()
    backlog = groups.together(each)
    behind = {name: of.lag for name, of in each.items() if of.lag}
    return {
        "redis": "ok",
        "lag": backlog.lag,
        **({"lagOf": behind} if len(each) > 1 else {}),
        "pending": backlog.pending,
        "consumers": len(backlog.consumers),
    }


async def _from_database(config: Config, report: dict[str, Any]) -> dict[str, Any]:
    engine = create_engine(config.database_url or "", application="crm status")
    try:
        async with engine.connect() as connection:
            waiting = await status.database_backlog(connection)
            lost = await losses.summary(connection)
            trimmed = await trims(connection)
    except DATABASE_AWAY as error:
        report["ok"] = False
        return {"database": f"away: {type(error).__name__}"} | dict.fromkeys(
            (
                "deadLetters",
                "unpublished",
                "oldestUnpublishedSeconds",
                "sweepOverdueSeconds",
                "losses",
                "lostEntries",
                "trimmingHeldBy",
            )
        )
    finally:
        await engine.dispose()
    return {
        "database": "ok",
        "deadLetters": waiting.dead_letters,
        "unpublished": waiting.unpublished,
        "oldestUnpublishedSeconds": round(waiting.oldest_unpublished_seconds, 3),
        "sweepOverdueSeconds": round(waiting.sweep_overdue_seconds, 3),
        "losses": lost.open,
        "lostEntries": lost.entries,
        "trimmingHeldBy": {it.stream: it.held_by for it in trimmed if it.held_by is not None},
    }


def show_status(report: dict[str, Any], console: Console) -> None:
    """Print it for people."""
    table = Table.grid(padding=(0, 2))
    for name, value in report.items():
        if name == "parts":
            for part, facts in value.items():
                table.add_row(part, f"pid {facts['pid']}, log {facts['log']}")
        elif isinstance(value, dict):
            table.add_row(name, ", ".join(f"{of}: {it}" for of, it in value.items()) or "nobody")
        elif name != "ok":
            table.add_row(name, "unknown" if value is None else str(value))
    console.print(table)
