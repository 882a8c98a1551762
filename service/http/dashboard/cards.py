"""The four key figures above the list, each compared with the previous period."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.figures import Figures
from service.db.statistics.counters import Window, read_figures
from service.db.statistics.daily import figures_at
from service.db.statistics.key_figures import key_figures

SINCE = timedelta(days=30)
"""How far back the figures are compared when no date filter is set."""


class Card(NamedTuple):
    """A key figure, now and before."""

    name: str
    kind: str
    value: Any
    before: Any | None
    """None if it is not known."""

    @property
    def change(self) -> Decimal | None:
        """The change in percent, or in percentage points for a percentage, to one decimal.

        None if there is nothing to compare with.
        """
        if self.before is None or (not self.before and self.kind != "percent"):
            return None
        change = Decimal(self.value) - Decimal(self.before)
        if self.kind != "percent":
            change = 100 * change / Decimal(self.before)
        return round(change, 1)


async def cards(
    connection: AsyncConnection, current: Figures, window: Window | None, now: datetime
) -> list[Card]:
    """Return the cards for everybody, or for the customers created in a window."""
    figures = key_figures(current, Decimal(0))
    past = (
        await read_figures(connection, window.before)
        if window
        else await figures_at(connection, (now - SINCE).astimezone(UTC).date())
    )
    before = key_figures(past, Decimal(0)) if past else None
    return [
        Card(name, kind, getattr(figures, key), before and getattr(before, key))
        for name, kind, key in (
            ("Total Customers", "number", "total_customers"),
            ("Average LTV", "money", "average_ltv"),
            ("Active Customers", "number", "active_customers"),
            ("Retention Rate", "percent", "retention_rate"),
        )
    ]
