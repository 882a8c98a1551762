"""``crm verify``: check the invariants, by hand or on a schedule."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any

import typer

from service.cli.database import connected
from service.cli.output import AsJson, camel, facts_line, print_json, say
from service.config import Config
from service.db.engine import SCAN_SECONDS, in_transaction
from service.db.operations.status import note_verification
from service.db.operations.verify import Finding
from service.db.operations.verify import verify as find_offenders
from service.local.state import with_local_stack
from service.streams import redis_client


def verify(*, as_json: Annotated[bool, AsJson] = False) -> None:
    """Recount everything and check the eight invariants.

    Exit status 1 if one is broken; the rows that break it are printed. Runs beside live traffic.
    """
    findings = asyncio.run(_verify(with_local_stack(Config.load())))
    broken = any(finding.offenders for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [_document(finding) for finding in findings]})
    else:
        for finding in findings:
            verdict = "BROKEN" if finding.offenders else "holds"
            say(f"{finding.number}  {finding.invariant}: {verdict}")
            for offender in finding.offenders:
                say(f"     {facts_line(offender)}")
    raise typer.Exit(1 if broken else 0)


async def _verify(config: Config) -> list[Finding]:
    """Check all invariants, and store which ones are broken, for the alert."""
    async with (
        connected(config, "crm verify", SCAN_SECONDS) as engine,
        aclosing(redis_client.configured(config)) as redis,
    ):
        findings = await find_offenders(
            engine,
            redis,
            orders=config.orders_streams,
            group=config.orders_group,
            changes=config.changes_stream,
        )
        broken = [finding.number for finding in findings if finding.offenders]
        await in_transaction(engine, note_verification, broken)
    return findings


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "number": finding.number,
        "invariant": finding.invariant,
        "holds": not finding.offenders,
        "offenders": [camel(offender) for offender in finding.offenders],
    }
