"""The store's clock: what time it is, and which time zone its days and months are those of."""

from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.store_days import day_of
from service.core.time_zones import zone_of
from service.db.columns import pack, unpack
from service.db.locks import CLOCK

STORE_ZONE = "(SELECT time_zone FROM settings ORDER BY version DESC LIMIT 1)"
"""The SQL expression for the name of the store's time zone."""
# Nothing keeps the zone between two requests. So pages and answers follow a change at once, and all
# that one snapshot reads is of one zone.
_READ = text(f"SELECT {CLOCK} AS now, {STORE_ZONE} AS zone")

_COMPARED = timedelta(days=365)
"""How far back and ahead the two clocks are compared."""
_COMPARED_EVERY = timedelta(hours=6)
_DIFFERENCE = text(f"""
SELECT min(at) FROM ({unpack({"at": "timestamptz", "shown": "timestamp"})}) compared
WHERE at AT TIME ZONE CAST(:zone AS text) <> shown
""")


class StoreClock(NamedTuple):
    """A moment, and the zone in which the store counts days."""

    now: datetime
    zone: ZoneInfo

    @property
    def today(self) -> date:
        """The store's date at this moment."""
        return day_of(self.now, self.zone)


async def read_store_clock(connection: AsyncConnection) -> StoreClock:
    """Return the database's clock and the store's time zone in force.

    On a replica, the clock shows the moment that its data is from.
    """
    row = (await connection.execute(_READ)).one()
    return StoreClock(row.now, zone_of(row.zone))


async def first_difference(connection: AsyncConnection, clock: StoreClock) -> datetime | None:
    """Return when PostgreSQL shows another time in the store's zone than Python, within a year.

    None if it never does. The answer is six hours late at most.
    """
    moments = [
        clock.now + n * _COMPARED_EVERY
        for n in range(-(_COMPARED // _COMPARED_EVERY), _COMPARED // _COMPARED_EVERY)
    ]
    shown = [moment.astimezone(clock.zone).replace(tzinfo=None) for moment in moments]
    parameters = {**pack({"at": moments, "shown": shown}), "zone": clock.zone.key}
    found: datetime | None = (await connection.execute(_DIFFERENCE, parameters)).scalar_one()
    return found
