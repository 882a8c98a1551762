"""The four key figures over the list, each against the period before."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.figures import Figures
from service.db.statistics.counters import Window, read_figures
from service.db.statistics.daily import figures_at
from service.db.statistics.key_figures import key_figures

SINCE = timedelta(days=30)
"""Without a date filter: how far back the figures are compared with."""


class Card(NamedTuple):
    """A key figure, now and before."""

    name: str
    kind: str
    value: Any
    before: Any | None
    """None: not known."""

    @property
    def change(self) -> Decimal | None:
        """By how much it has changed: in percent, of a percentage in percentage points."""
        if self.before is None:
            return None
        if self.kind == "percent":
            return Decimal(self.value) - Decimal(self.before)
        if not self.before:
            return None
        return 100 * (Decimal(self.value) - Decimal(self.before)) / Decimal(self.before)


async def cards(
    connection: AsyncConnection, found: Figures, window: Window | None, now: datetime
) -> list[Card]:
    """Give what was found of everybody, or of the customers created in a window."""
    figures = key_figures(found, Decimal(0))
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
