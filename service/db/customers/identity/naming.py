"""SQL that says whom an order belongs to, by the identifiers that named it."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

OWNER_OF_ORDER = """
coalesce(
  (SELECT i.customer_id FROM identifiers i WHERE i.identifier = o.identifier),
  (SELECT c.id FROM customers c WHERE o.identifier = 'customer:' || c.id),
  (SELECT i.customer_id FROM identifiers i WHERE i.identifier = o.other_identifier)
)"""
"""The customer whom the first identifier of ``orders o`` means that means somebody; else NULL."""

PREDECESSORS = """
(SELECT CAST(:id AS bigint) UNION ALL
 SELECT CAST(substr(identifier, 10) AS bigint) FROM identifiers
 WHERE customer_id = :id AND identifier LIKE 'customer:%')"""
"""The number ``:id``, and those of the customers who were merged into them."""

_SAY_WHAT_NAMED = text("""
UPDATE orders o SET identifier = coalesce('email:' || c.email_key, 'customer:' || c.id)
FROM customers c WHERE c.id = ANY(:ids) AND o.customer_id = c.id AND o.identifier IS NULL
""")

PUT_TOGETHER = """
SELECT DISTINCT LEAST(i.customer_id, j.customer_id) AS low,
  GREATEST(i.customer_id, j.customer_id) AS high
FROM (
  SELECT o.identifier, j.customer_id
  FROM {orders} o JOIN identifiers j ON j.identifier = o.other_identifier
  WHERE {condition} AND j.customer_id IS NOT NULL OFFSET 0
) j JOIN identifiers i ON i.identifier = j.identifier
WHERE i.customer_id <> j.customer_id
  AND NOT EXISTS (
    SELECT FROM pending_merges p WHERE (p.low, p.high) =
      (LEAST(i.customer_id, j.customer_id), GREATEST(i.customer_id, j.customer_id)))
  AND NOT EXISTS (
    SELECT FROM separations s WHERE (s.low, s.high) =
      (LEAST(i.customer_id, j.customer_id), GREATEST(i.customer_id, j.customer_id)))
"""
"""The customers whom orders put together, and who are neither due to be merged nor known to
be two people."""


async def say_what_named(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Write what named those orders of customers that do not say so.

    An earlier release named them, by the customer's e-mail or, if there is none, by their id.
    """
    await connection.execute(_SAY_WHAT_NAMED, {"ids": ids})
