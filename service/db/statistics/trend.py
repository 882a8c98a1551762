"""How the figures came to be what they are: one item per day, the days being UTC's.

Read from what is kept by day, so it costs the same at any number of customers and orders.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.locks import read_clock
from service.db.statistics.counters import read_figures
from service.db.statistics.daily import Total, before, read_changes, read_totals


async def trend(
    connection: AsyncConnection, days: int, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Give the last ``days`` UTC days, the oldest first; today goes up to ``now`` (None: now).

    ``segments``: customers per segment when the day ended, as was known then: an order of last
    year that was imported today moved its customer today, and who was erased left on that day.
    ``newCustomers``: customers whose ``dateCreated`` lies in the day. ``totalCustomers``: those
    created up to its end. ``orders`` and ``revenue``: number and net sum (total less refunds) of
    the counted orders placed in it, attributed or not. These stand on their own dates.

    Read in one snapshot, as the counters have to agree with the changes.
    """
    today = (now or await read_clock(connection)).astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    figures = await read_figures(connection)
    changes = await read_changes(connection, first)
    totals = await read_totals(connection, first)
    # Publishers' clocks may run ahead: some were created tomorrow.
    customers = sum(figure.customers for figure in figures.values())
    customers -= sum(total.created for day, total in totals.items() if day > today)
    items: list[dict[str, Any]] = []
    for day in (today - timedelta(days=n) for n in range(days)):
        total = totals.get(day, Total())
        items.append(
            {
                "date": day.isoformat(),
                "segments": {segment.value: figures[segment].customers for segment in Segment},
                "totalCustomers": customers,
                "newCustomers": total.created,
                "orders": total.orders,
                "revenue": total.revenue,
            }
        )
        figures = before(figures, changes.get(day, {}))
        customers -= total.created
    return items[::-1]
