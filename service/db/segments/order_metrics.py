"""What a customer's orders add up to, as SQL. `verify` and `rebuild` recompute it."""

from service.db import registers

ORDER_METRICS = """
    CAST(count(*) FILTER (WHERE counts) AS integer) AS total_orders,
    coalesce(sum(net) FILTER (WHERE counts), 0.00) AS total_spent,
    min(date_created) FILTER (WHERE counts) AS first_order_date,
    max(date_created) FILTER (WHERE counts) AS last_order_date,
    max(date_created) AS newest_order"""
"""Aggregates over the orders of one customer, named as the columns of ``customers``.

``newest_order`` is the latest order, whether it counts or not: it ends a hold.
"""

HOLD = ("segment_manual", "segment_pinned", "segment_pinned_until", "segment_held_since")
"""Columns of a segment that was set by hand."""

OF_ORDERS = f"(SELECT {ORDER_METRICS} FROM orders WHERE customer_id = c.id)"
_COUNTED = "o.total_orders, o.total_spent, o.first_order_date, o.last_order_date"
METRICS = f"{_COUNTED}, o.newest_order"


def recounted(
    date_created: str, *more: str, of_orders: str = OF_ORDERS, newest_order: str = "o.newest_order"
) -> str:
    """Return the CTE ``after`` of `assign_sql` for customers ``:ids``, computed from their orders.

    All else stays as it is. ``of_orders`` selects the metrics of a customer's orders. The other
    parameters are SQL over the customer ``c`` and these metrics ``o``; no order ends a hold if
    ``newest_order`` is NULL.
    """
    columns = ", ".join((f"{date_created} AS date_created", *more))
    return f"""after AS (
  SELECT c.ctid AS place, c.id, {registers.listed("c")}, c.email_key, c.segment,
    {", ".join(f"c.{column}" for column in HOLD)}, {_COUNTED},
    {newest_order} AS newest_order, {columns}
  FROM customers c CROSS JOIN LATERAL {of_orders} o
  WHERE c.id = ANY(:ids)
)"""
