"""Recompute what can be derived from what is stored, and correct what differs.

First come the rows that others rely on: counters, references, the history's order. Then every
customer is recomputed from their orders, chunk by chunk. Each chunk is read in one snapshot, so
orders that arrive meanwhile are no difference. Customers who differ are locked as ingestion locks
them, recomputed under the lock and written by `service.db.segments.assign`. The result is right
whatever happened between finding and locking. Each step is a transaction, so after an interruption
a rebuild is simply run again. At the end, the invariants are checked: what is left then, a rebuild
cannot know.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.reconstruction import ReconstructionCause
from service.db.accounts.audit import note
from service.db.engine import in_transaction
from service.db.operations.past_days import compute_past_days
from service.db.operations.rebuild.customers import correct, differences, next_ids
from service.db.operations.rebuild.mend import Mended, mend
from service.db.operations.rebuild.mends import FIRST, LAST
from service.db.operations.rebuild.statistics import correct_statistics
from service.db.operations.verify import database_findings
from service.db.operations.verify.findings import Finding
from service.db.operations.verify.statistics import recount
from service.db.statistics.generations import request_reconstruction

CHUNK = 2000
"""Customers recomputed at once."""


class CustomerMetrics(NamedTuple):
    """A customer's metrics and segment, as they are stored or as they should be."""

    total_orders: int
    total_spent: Decimal
    first_order_date: datetime | None
    last_order_date: datetime | None
    segment: str


class Difference(NamedTuple):
    """A customer whose metrics or segment are not what their orders give."""

    customer_id: int
    stored: CustomerMetrics
    rebuilt: CustomerMetrics


@dataclass
class RebuildReport:
    """The differences that a rebuild found."""

    applied: bool
    """The differences were corrected."""
    examined: int = 0
    """Customers recomputed."""
    customers: int = 0
    """Customers who differ in their metrics or their segment."""
    figures: int = 0
    """Customers who differ in their metrics."""
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of customers per pair of stored and right segment."""
    first: list[Difference] = field(default_factory=list)
    """The first customers who differ, as examples."""
    statistics: list[dict[str, Any]] = field(default_factory=list)
    """The stored statistics that differ from a recount."""
    mended: list[Mended] = field(default_factory=list)
    """Everything else that was wrong and can be derived."""
    past_days: bool = False
    """The figures of past days were computed again."""
    left: list[Finding] = field(default_factory=list)
    """The invariants that do not hold when the rebuild has ended."""

    @property
    def clean(self) -> bool:
        """Return whether nothing differed, and nothing is wrong that a rebuild cannot mend."""
        return not (self.customers or self.statistics or self.mended or self.left)


async def rebuild(
    engine: AsyncEngine,
    *,
    apply: bool,
    actor: str,
    past_days: bool = False,
    show: int = 20,
    progress: Callable[[int], object] = lambda _: None,
) -> RebuildReport:
    """Compare everything that can be derived with what is stored. With ``apply``, correct it.

    With ``past_days``, too, the figures of all past days are computed from the orders.
    ``show`` is the greatest length of `RebuildReport.first`. ``progress`` is called after each
    chunk, with its number of customers.
    """
    report = RebuildReport(apply)
    for step in FIRST:
        report.mended += await mend(engine, step, apply=apply)
    after = 0
    while ids := await next_ids(engine, after, CHUNK):
        rows = await differences(engine, ids)
        for row in rows:
            _add(report, row, show)
        if apply and rows:
            await in_transaction(engine, correct, [row.id for row in rows])
        report.examined += len(ids)
        after = ids[-1]
        progress(len(ids))
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        report.statistics = await recount(connection)
    if apply and report.statistics:
        await in_transaction(engine, correct_statistics)
    if apply and past_days:
        await in_transaction(engine, request_reconstruction, ReconstructionCause.ASKED)
        while await in_transaction(engine, compute_past_days):
            report.past_days = True
    for step in LAST:
        report.mended += await mend(engine, step, apply=apply)
    if apply and (report.customers or report.statistics or report.mended):
        details = {
            "customers": report.customers,
            "statistics": len(report.statistics),
            "mended": {mended.what: mended.rows for mended in report.mended},
        }
        async with engine.begin() as connection:
            await note(connection, actor, "rebuild.applied", details=details)
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        findings, _ = await database_findings(connection)
        report.left = [finding for finding in findings if finding.faults]
    return report


def _add(report: RebuildReport, row: Row[Any], show: int) -> None:
    stored = CustomerMetrics(
        row.stored_orders, row.stored_spent, row.stored_first, row.stored_last, row.segment
    )
    rebuilt = CustomerMetrics(
        row.total_orders,
        row.total_spent,
        row.first_order_date,
        row.last_order_date,
        row.judged_segment,
    )
    report.customers += 1
    report.figures += row.metrics_differ
    if stored.segment != rebuilt.segment:
        report.moves[stored.segment, rebuilt.segment] += 1
    if len(report.first) < show:
        report.first.append(Difference(row.id, stored, rebuilt))
