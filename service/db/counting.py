"""The rule of what counts, and how much an order adds, as SQL. It stands nowhere else."""

from service.core.counting import CountFrom, NotCounted

_SAYS_REFUNDED = "(status = 'refunded' OR coalesce(payment_status = 'refunded', false))"
_REFUNDED_IN_FULL = (
    f"CASE WHEN total > 0 THEN refunded >= total OR refunded = 0 AND {_SAYS_REFUNDED}"
    f" ELSE {_SAYS_REFUNDED} END"
)
_PAID = "('paid', 'partially_refunded', 'refunded')"
"""What was refunded only in part was paid before, whatever word the shop has for it."""
_CONDITIONS = {
    NotCounted.CANCELLED: "status = 'cancelled'",
    NotCounted.PAYMENT_FAILED: "coalesce(payment_status = 'failed', false)",
    NotCounted.REFUNDED_IN_FULL: _REFUNDED_IN_FULL,
    NotCounted.UNPAID: (
        f"{{count_from}} = '{CountFrom.PAID}' AND coalesce(payment_status NOT IN {_PAID}, true)"
    ),
    NotCounted.FREE: "total = 0 AND NOT {count_free_orders}",
}

COUNTING = (
    "SELECT count_from, count_free_orders, time_zone FROM settings ORDER BY version DESC LIMIT 1"
)
"""A query: what counts by the newest settings, in one row."""
RULES_OF_NOW = f"""
counting AS MATERIALIZED (
  {COUNTING}
)"""
"""A CTE of `COUNTING`."""


def not_counted_sql(
    count_from: str = "counting.count_from",
    count_free_orders: str = "counting.count_free_orders",
) -> str:
    """Return a CASE: why the order of this row does not count, as in `NotCounted`; NULL: it does.

    It reads the columns ``status``, ``payment_status``, ``total`` and ``refunded``.
    """
    reasons = _reasons(count_from, count_free_orders)
    whens = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in reasons.items())
    return f"CASE {whens} END"


def counts_sql(
    count_from: str = "counting.count_from",
    count_free_orders: str = "counting.count_free_orders",
) -> str:
    """Return the condition that the order of this row counts."""
    reasons = _reasons(count_from, count_free_orders)
    return f"NOT ({' OR '.join(f'({condition})' for condition in reasons.values())})"


def _reasons(count_from: str, count_free_orders: str) -> dict[NotCounted, str]:
    """Return the condition of each reason, by these settings."""
    return {
        reason: condition.format(count_from=count_from, count_free_orders=count_free_orders)
        for reason, condition in _CONDITIONS.items()
    }


STORED_REASON = f"CASE WHEN NOT counts THEN {not_counted_sql()} END"
"""Why the stored order does not count, by the newest settings. Needs ``counting``.

NULL: it does, or it will as soon as the recount has come to it.
"""

NET = (
    "CASE WHEN currency IS NULL THEN total - LEAST(refunded, total)"
    " WHEN exchange_rate IS NOT NULL"
    " THEN round((total - LEAST(refunded, total)) * exchange_rate, 2)"
    " ELSE 0.00 END"
)
"""The column ``orders.net``: what an order that counts adds, in the store's currency. The money of
another currency without a rate is kept apart."""
