"""``crm verify``: check the invariants, by hand or on a schedule."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, connected
from service.cli.output import AsJson, camel, facts_line, print_json, print_table, say
from service.config import Config
from service.db.accounts.audit import note
from service.db.engine import SCAN_SECONDS, in_transaction
from service.db.operations.out_streams import out_streams
from service.db.operations.status import note_verification
from service.db.operations.verify import Report
from service.db.operations.verify import verify as find_faults
from service.db.operations.verify.coverage import COVERAGE
from service.db.operations.verify.findings import Finding
from service.local.state import with_local_stack
from service.streams import redis_client


def verify(
    *,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Take rows as right that must not change and did. The audit records this.",
        ),
    ] = False,
    coverage: Annotated[
        bool,
        typer.Option("--coverage", help="Check nothing; list by what each column is checked."),
    ] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Recount everything and check the invariants.

    Exit status 1 if one is broken; the rows that break it are printed, and what to do about it.
    Runs beside live traffic.
    """
    if coverage:
        _list_coverage(as_json=as_json)
        return
    report = asyncio.run(_verify(with_local_stack(Config.load()), accept=accept))
    if as_json:
        print_json(
            {
                "ok": not report.broken,
                "findings": [finding_document(finding) for finding in report.findings],
            }
        )
    else:
        for line in finding_lines(report.findings):
            say(line)
    raise typer.Exit(1 if report.broken else 0)


def _list_coverage(*, as_json: bool) -> None:
    listed = [
        (table, column, str(covered))
        for table, columns in COVERAGE.items()
        for column, covered in columns.items()
    ]
    if as_json:
        names = ("table", "column", "checked")
        print_json([dict(zip(names, row, strict=True)) for row in listed])
    else:
        print_table(("TABLE", "COLUMN", "CHECKED"), listed)


async def _verify(config: Config, *, accept: bool) -> Report:
    """Check all invariants, and store which ones are broken, for the alert."""
    async with (
        connected(config, "crm verify", SCAN_SECONDS) as engine,
        aclosing(redis_client.configured(config)) as redis,
    ):
        report = await find_faults(
            engine,
            redis,
            orders=config.orders_streams,
            group=config.orders_group,
            published=out_streams(config),
            terms=config.terms,
            accept=accept,
        )
        await in_transaction(engine, _store, report, accept)
    return report


async def _store(connection: AsyncConnection, report: Report, accept: bool) -> None:  # noqa: FBT001
    broken = [finding.number for finding in report.broken]
    await note_verification(connection, broken, report.remembered)
    if accept:
        await note(connection, actor(), "verify.accepted")


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines that tell a person what holds, what does not, and what to do."""
    for finding in findings:
        verdict = "BROKEN" if finding.faults else "holds"
        yield f"{finding.number:>2}  {finding.invariant}: {verdict}"
        for fault in finding.faults:
            yield f"      {fault.what[:1].upper()}{fault.what[1:]}:"
            for offender in fault.offenders:
                yield f"        {facts_line(offender)}"
            yield f"      → {fault.remedy}"


def finding_document(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON has it."""
    return {
        "number": finding.number,
        "invariant": finding.invariant,
        "holds": not finding.faults,
        "offenders": [camel(offender) for offender in finding.offenders],
        "faults": [
            {
                "fault": fault.what,
                "remedy": fault.remedy,
                "offenders": [camel(offender) for offender in fault.offenders],
            }
            for fault in finding.faults
        ],
    }
