"""Generations of daily figures: one set of days for each time zone that the store has had.

Days of two zones must not be mixed, and writers must not wait while all days are counted again. So
rows of daily figures belong to a generation, which is folded into their slot. Writers write all
generations that `daily_generations` lists: nearly always one. A new zone begins a new generation.
From then on writers write both, until `service.db.operations.past_days` has completed the new one.
Then readers read it, and the old one is dropped.
"""

from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.reconstruction import ReconstructionCause
from service.core.time_zones import zone_of
from service.db.schema import GENERATION_SLOTS

IN_USE = (
    "(SELECT generation FROM daily_generations WHERE counted_at IS NOT NULL"
    " ORDER BY generation DESC LIMIT 1)"
)
"""The SQL expression for the generation that is read."""
READ = f"slot / {GENERATION_SLOTS} = {IN_USE}"
"""The condition that a row of daily figures belongs to the generation that is read."""
COMPUTED_SLOT = GENERATION_SLOTS - 1
"""Within each generation, the slot of the rows that no writer of events writes."""

_IN_USE = text(f"""
SELECT generation, time_zone, reconstructed_until,
       EXISTS (SELECT FROM reconstructions) AS reconstructing
FROM daily_generations WHERE generation = {IN_USE}
""")
_REQUEST = text("INSERT INTO reconstructions (cause) VALUES (:cause)")
_TO_BEGIN = """
SELECT time_zone FROM settings
WHERE version = (SELECT max(version) FROM settings) AND time_zone IS DISTINCT FROM (
  SELECT time_zone FROM daily_generations ORDER BY generation DESC LIMIT 1)"""
_TO_DROP = f"""
SELECT generation FROM daily_generations
WHERE generation < {IN_USE}
   OR counted_at IS NULL AND generation < (SELECT max(generation) FROM daily_generations)"""
_ANYTHING_TO_DO = text(f"SELECT EXISTS ({_TO_BEGIN}) OR EXISTS ({_TO_DROP})")
# A writer locks counters before it writes daily figures. Once we hold this lock, all transactions
# that know other generations have ended. Later writers wait, and read the generations after that.
_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '5s'")
_LOCK_WRITERS = text("LOCK TABLE segment_counters IN EXCLUSIVE MODE")
# Writers use the zone of the generation. So one that this server does not know fails here, and
# does not fail them.
_BEGIN = text(f"""
INSERT INTO daily_generations (time_zone)
SELECT time_zone FROM ({_TO_BEGIN}) changed WHERE now() AT TIME ZONE time_zone IS NOT NULL
""")
_DROP = [
    text(f"DELETE FROM daily_generations WHERE generation IN ({_TO_DROP})"),
    *(
        text(
            f"DELETE FROM {table} WHERE slot / {GENERATION_SLOTS} NOT IN"
            " (SELECT generation FROM daily_generations)"
        )
        for table in ("daily_changes", "daily_totals")
    ),
]


class Generation(NamedTuple):
    """The generation of daily figures that is read."""

    generation: int
    time_zone: str
    reconstructed_until: date | None
    """Up to this day, segments are computed from the orders. None: all days are as they were known
    when they ended."""
    reconstructing: bool
    """Somebody has asked to compute past days, and that is not done yet."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose days these are."""
        return zone_of(self.time_zone)

    def reconstructs(self, day: date) -> bool:
        """Return whether the segments at the end of a day are computed from the orders."""
        return self.reconstructed_until is not None and day <= self.reconstructed_until


async def read_generation(connection: AsyncConnection) -> Generation:
    """Return the generation that is read."""
    row = (await connection.execute(_IN_USE)).one()
    return Generation(*(getattr(row, name) for name in Generation._fields))


async def request_reconstruction(connection: AsyncConnection, cause: ReconstructionCause) -> None:
    """Ask the workers to compute the figures of past days from the orders; the caller commits."""
    await connection.execute(_REQUEST, {"cause": cause.value})


async def follow_time_zone(connection: AsyncConnection) -> bool:
    """Begin the generation of a changed time zone, and drop those that nobody reads any more.

    Return False if there was nothing to do. Writers wait while this transaction lasts, which is
    short. The caller commits. Raises an error of the database if it does not know the time zone, or
    if a writer keeps it waiting for more than five seconds.
    """
    if not (await connection.execute(_ANYTHING_TO_DO)).scalar_one():
        return False
    await connection.execute(_LOCK_TIMEOUT)
    await connection.execute(_LOCK_WRITERS)
    begun = (await connection.execute(_BEGIN)).rowcount
    dropped = [(await connection.execute(statement)).rowcount for statement in _DROP]
    return bool(begun or any(dropped))
