"""``crm verify``: the invariants, as a table for people and an exit status for machines."""

from rich.console import Console

from service.config import Config
from service.db.engine import SCAN_SECONDS, create_engine
from service.db.operations.status import note_verification
from service.db.operations.verify import verify
from service.streams import redis_client


async def run_verify(config: Config, console: Console) -> int:
    """Check all invariants and print them; 0 when all hold, else 1."""
    engine = create_engine(
        config.database_url or "", application="crm verify", transaction_seconds=SCAN_SECONDS
    )
    redis = redis_client.configured(config)
    try:
        findings = await verify(
            engine,
            redis,
            orders=config.orders_streams,
            group=config.orders_group,
            changes=config.changes_stream,
        )
        broken = [finding.number for finding in findings if finding.offenders]
        async with engine.begin() as connection:
            await note_verification(connection, broken)
    finally:
        await redis.aclose()
        await engine.dispose()
    for finding in findings:
        verdict = "[red]BROKEN[/red]" if finding.offenders else "[green]holds[/green]"
        console.print(f"{finding.number}  {finding.invariant}: {verdict}")
        for offender in finding.offenders:
            shown = ", ".join(f"{name}={value}" for name, value in offender.items())
            console.print(f"     {shown}", markup=False)
    return 1 if broken else 0
