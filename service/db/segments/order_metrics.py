"""What a customer's orders add up to, as SQL. `verify` and `rebuild` recompute it."""

ORDER_METRICS = """
    CAST(count(*) FILTER (WHERE counts) AS integer) AS total_orders,
    coalesce(sum(net) FILTER (WHERE counts), 0.00) AS total_spent,
    min(date_created) FILTER (WHERE counts) AS first_order_date,
    max(date_created) FILTER (WHERE counts) AS last_order_date,
    max(date_created) AS newest_order"""
"""Aggregates over the orders of one customer, named as the columns of ``customers``.

``newest_order`` is the latest order, whether it counts or not: it ends a hold.
"""
