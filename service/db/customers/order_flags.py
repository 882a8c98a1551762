"""Which flags an order has, as SQL. They are computed when an order is read."""

from service.core.order_flags import OrderFlag
from service.db.customers.order_conflicts import IN_CONFLICT

REFUSED_UPDATE = (
    "(o.version, o.updated_at, o.applied_at) < (coalesce(dead_letters.order_version, o.version),"
    " dead_letters.order_changed_at, dead_letters.first_seen)"
)
"""The dead letter is newer than the state of ``orders o``, of which it tells. A letter whose
version cannot be read is compared by its time alone. Where both are equal, the one that came later
is newer: some publishers write neither a version nor when an order was changed."""

IS_REFUSED_UPDATE = f"""EXISTS (
  SELECT FROM orders o
  WHERE o.id = dead_letters.order_id AND dead_letters.order_id <> '' AND {REFUSED_UPDATE}
)"""
"""SQL for: this row of ``dead_letters`` leaves a known order in an older state."""

_CONDITIONS = {
    OrderFlag.REFUND_EXCEEDS_TOTAL: "o.refunded > o.total",
    OrderFlag.REFUND_FELL: "o.most_refunded IS NOT NULL",
    OrderFlag.CONFLICT: IN_CONFLICT,
    OrderFlag.UPDATE_REFUSED: f"""EXISTS (
  SELECT FROM dead_letters
  WHERE dead_letters.order_id = o.id AND dead_letters.order_id <> '' AND {REFUSED_UPDATE}
)""",
}
FLAGS = (
    "array_remove(ARRAY["
    + ", ".join(
        f"CASE WHEN {condition} THEN '{flag}' END" for flag, condition in _CONDITIONS.items()
    )
    + "], NULL)"
)
"""The flags of ``orders o``, in the order of `OrderFlag`."""
