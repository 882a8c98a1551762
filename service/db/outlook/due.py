"""When a fit or a circle of the refresh is due. Cheap to find out: workers look often."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import Gate, ModelState

FIT_EVERY = timedelta(hours=24)
_FIT_AGAIN = timedelta(minutes=10)
"""After this, the model of a shop that has grown is fitted again, and what was too little tried."""
_GROWN = 1.1
REFRESH_EVERY = timedelta(minutes=5)
"""A circle is begun this long after the last one, at the earliest."""
PROMISE = timedelta(hours=2)
"""An outlook is not older than this, if the shop is no larger than a million customers."""

_SITUATION = text("""
SELECT clock_timestamp() AS now, m.id AS newest, m.state, m.fitted_at, m.customers,
  r.fit_wanted_at, r.model, r.next_id, r.begun_at, r.completed_at,
  EXISTS (SELECT FROM customer_outlook) AS outlooks,
  k.with_orders, k.repeat_customers,
  (SELECT min(date_created) FROM orders WHERE counts AND customer_id IS NOT NULL) AS first_order,
  (SELECT max(date_created) FROM orders WHERE counts AND customer_id IS NOT NULL) AS last_order
FROM insight_refresh r
LEFT JOIN (SELECT * FROM insight_models ORDER BY id DESC LIMIT 1) m ON true
CROSS JOIN (
  SELECT CAST(coalesce(sum(with_orders), 0) AS bigint) AS with_orders,
    CAST(coalesce(sum(repeat_customers), 0) AS bigint) AS repeat_customers
  FROM segment_counters
) k
""")
_WISH = text("""
UPDATE insight_refresh SET fit_wanted_at = clock_timestamp() WHERE fit_wanted_at IS NULL
RETURNING fit_wanted_at
""")
_DAY = timedelta(days=1)


class Situation(NamedTuple):
    """What there is to do, and how much there is to learn from."""

    now: datetime
    gate: Gate
    """By the counters: its repeaters have two orders, perhaps on one day."""
    newest: int | None
    state: ModelState | None
    """None: nothing was fitted yet."""
    fitted_at: datetime | None
    fitted_customers: int
    fit_wanted_at: datetime | None
    refreshed: int | None
    """The model of the circle that is under way, or of the last one."""
    next_id: int
    """How far the circle has come."""
    begun_at: datetime | None
    """When the circle that is under way began, or the last one."""
    completed_at: datetime | None
    """When the last circle ended."""
    outlooks: bool
    """Whether there is any outlook."""

    @property
    def under_way(self) -> bool:
        """Return whether a circle has been begun and not completed."""
        return self.begun_at is not None and (
            self.completed_at is None or self.begun_at > self.completed_at
        )

    @property
    def busy(self) -> bool:
        """Return whether somebody waits for a fit, or for the first outlooks of a new model."""
        return (
            self.fit_wanted_at is not None
            or self.under_way
            or (self.state is ModelState.FITTED and self.refreshed != self.newest)
        )

    @property
    def fit_due(self) -> bool:
        """Return whether a fit is due."""
        if self.fit_wanted_at:
            return True
        if self.gate.lacking:
            return self.state is ModelState.FITTED
        if self.fitted_at is None:
            return True
        age = self.now - self.fitted_at
        grown = self.state is ModelState.TOO_LITTLE or (
            self.gate.customers >= _GROWN * self.fitted_customers
        )
        return age >= FIT_EVERY or (grown and age >= _FIT_AGAIN)

    @property
    def refresh_due(self) -> bool:
        """Return whether a circle is due, or has been begun and not completed."""
        if self.state is not ModelState.FITTED:
            return self.outlooks
        return (
            self.refreshed != self.newest
            or self.under_way
            or self.completed_at is None
            or self.now - self.completed_at >= REFRESH_EVERY
        )


async def read_situation(connection: AsyncConnection) -> Situation:
    """Return what there is to do."""
    row = (await connection.execute(_SITUATION)).one()
    return Situation(
        now=row.now,
        gate=Gate(
            customers=row.with_orders,
            repeaters=row.repeat_customers,
            history_days=_days(row.now - row.first_order) if row.first_order else 0.0,
            silent_days=_days(row.now - row.last_order) if row.last_order else 0.0,
        ),
        newest=row.newest,
        state=ModelState(row.state) if row.state else None,
        fitted_at=row.fitted_at,
        fitted_customers=row.customers or 0,
        fit_wanted_at=row.fit_wanted_at,
        refreshed=row.model,
        next_id=row.next_id,
        begun_at=row.begun_at,
        completed_at=row.completed_at,
        outlooks=row.outlooks,
    )


async def ask_for_fit(connection: AsyncConnection) -> datetime | None:
    """Have a worker fit soon; return when it was asked for. None: somebody has asked before.

    The caller commits.
    """
    asked: datetime | None = (await connection.execute(_WISH)).scalar_one_or_none()
    return asked


def _days(span: timedelta) -> float:
    return max(span / _DAY, 0.0)
