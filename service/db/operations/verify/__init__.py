"""The invariants of the service, a module for each group of them.

``crm verify`` checks them on a live system, and the tests check them after every scenario. All
queries on the database read one snapshot, so that work that goes on meanwhile cannot look like an
error. Nothing is loaded whole: rows that break an invariant are found by the database, and the
out-streams are read page by page. `coverage` lists by what each column of each table is checked.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.judge import Terms
from service.core.partitions import OrdersStream
from service.db.locks import read_clock
from service.db.operations import status
from service.db.operations.verify.access import ACCESS
from service.db.operations.verify.again import stream_faults
from service.db.operations.verify.endpoints import ENDPOINTS
from service.db.operations.verify.entries import ENTRIES, entry_faults
from service.db.operations.verify.findings import REBUILD, Check, Finding, fault_if, run
from service.db.operations.verify.history import HISTORY
from service.db.operations.verify.identity import (
    IDENTITY,
    order_faults,
    replaced_email_faults,
)
from service.db.operations.verify.kept import (
    KEPT,
    constraint_faults,
    letter_index_faults,
    remembered_faults,
)
from service.db.operations.verify.metrics import FIGURES_REBUILT, METRICS
from service.db.operations.verify.out_stream import out_stream_faults
from service.db.operations.verify.outlook import outlook_faults
from service.db.operations.verify.people import PEOPLE, email_key_faults, tag_faults
from service.db.operations.verify.removals import REMOVALS
from service.db.operations.verify.sample import sample_faults
from service.db.operations.verify.segments import SEGMENTS
from service.db.operations.verify.statistics import STATISTICS, recount
from service.db.out_stream_tail import OutStream
from service.db.segments.sweep import OVERLAP

_INVARIANTS: tuple[tuple[str, Sequence[Check]], ...] = (
    ("metrics equal the orders", METRICS),
    ("every entry read is accounted for", ENTRIES),
    ("applying again changes nothing", ()),
    ("segments equal the rules, no sweep is overdue", SEGMENTS),
    ("segment changes are a chain", HISTORY),
    ("the out-streams say what the database says", (*REMOVALS, *ENDPOINTS)),
    ("statistics equal a recount", STATISTICS),
    ("a rebuild equals the increments", FIGURES_REBUILT),
    ("people are found by what they have", (*PEOPLE, *IDENTITY)),
    ("what was stored stays as it was", (*KEPT, *ACCESS)),
    ("outlooks are what the model says", ()),
)
"""The invariants, in the order of their numbers, and the checks that Postgres makes alone."""


class Report(NamedTuple):
    """The result of a verification."""

    findings: list[Finding]
    """One for each invariant, in order."""
    remembered: dict[str, Any]
    """What the next verification compares with; see `verify.kept`."""

    @property
    def broken(self) -> list[Finding]:
        """Return the findings of the invariants that do not hold."""
        return [finding for finding in self.findings if finding.faults]


async def verify(
    engine: AsyncEngine,
    redis: Redis,
    *,
    orders: Sequence[OrdersStream],
    group: str,
    published: Sequence[OutStream],
    terms: Terms,
    accept: bool = False,
) -> Report:
    """Check all invariants. Writes nothing that is not rolled back.

    ``group`` is the name of the consumer group, ``published`` are the out-streams, ``terms`` those
    by which workers judge entries. With ``accept``, rows that the last verification saw
    otherwise are taken as right. Errors of the servers are raised as they come.
    """
    with_redis = {
        2: await entry_faults(engine, redis, orders, group),
        6: await out_stream_faults(engine, redis, published),
        3: await stream_faults(engine, redis, orders, group, terms) + await sample_faults(engine),
    }
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        findings, remembered = await database_findings(connection, accept=accept)
    return Report(
        [
            finding._replace(faults=with_redis.get(finding.number, []) + finding.faults)
            for finding in findings
        ],
        remembered,
    )


async def database_findings(
    connection: AsyncConnection, *, accept: bool = False
) -> tuple[list[Finding], dict[str, Any]]:
    """Check all that Postgres alone can tell. Call it in one snapshot; it writes nothing.

    Return a finding for each invariant, in order, and what the next verification compares with.
    """
    now = await read_clock(connection)
    parameters = {"now": now, "promise": status.SWEEP_PROMISE, "overlap": OVERLAP}
    counted = fault_if(
        await recount(connection), "a statistic is not what a recount gives", REBUILD
    )
    overdue = (await status.database_backlog(connection)).sweep_overdue_seconds
    settled, remembered = await remembered_faults(connection, now, accept=accept)
    more = {
        4: fault_if(
            [{"sweepOverdueSeconds": overdue}] if overdue else [],
            "the sweep is late",
            "Start a worker: it sweeps. If one runs, its log says what keeps it from sweeping.",
        ),
        7: counted,
        9: [
            *await email_key_faults(connection),
            *await tag_faults(connection),
            *await replaced_email_faults(connection),
            *await order_faults(connection),
        ],
        10: await letter_index_faults(connection) + await constraint_faults(connection) + settled,
        11: await outlook_faults(connection, now),
    }
    findings = list[Finding]()
    for number, (invariant, checks) in enumerate(_INVARIANTS, 1):
        # If metrics equal the orders, and counters a recount of the metrics, a rebuild gives the
        # same. Only if one of them does not, it is worth to add up all orders once more.
        implied = checks is FIGURES_REBUILT and not (findings[0].faults or counted)
        faults = [] if implied else await run(connection, checks, parameters)
        findings.append(Finding(number, invariant, faults + more.get(number, [])))
    return findings, remembered
