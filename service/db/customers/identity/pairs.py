"""Pairs of customers: those who are due to be merged, and those who are two people."""

from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.columns import pack, unpack
from service.db.customers.identity.naming import PUT_TOGETHER

_DUE = text(f"""
INSERT INTO pending_merges (low, high)
SELECT low, high FROM ({unpack({"low": "bigint", "high": "bigint"})}) p
WHERE NOT EXISTS (SELECT FROM separations s WHERE (s.low, s.high) = (p.low, p.high))
ORDER BY low, high
ON CONFLICT DO NOTHING
""")
_BY_ORDERS = text(PUT_TOGETHER.format(orders="orders", condition="o.customer_id = ANY(:ids)"))
# An order may have put the new customer together with the other one of a pair, not the old one.
_NO_LONGER_DUE = text("""
DELETE FROM pending_merges WHERE :old IN (low, high) RETURNING low + high - :old
""")
_SEPARATE = text("""
INSERT INTO separations (low, high, decided_by)
VALUES (LEAST(CAST(:one AS bigint), :other), GREATEST(CAST(:one AS bigint), :other), :actor)
ON CONFLICT DO NOTHING
""")
_NOT_DUE = text("""
DELETE FROM pending_merges
WHERE (low, high) = (LEAST(CAST(:one AS bigint), :other), GREATEST(CAST(:one AS bigint), :other))
""")
# Customers who are two people with the old customer are two people with the new one, too.
_INHERIT = text("""
INSERT INTO separations (low, high, decided_by)
SELECT LEAST(other, :new), GREATEST(other, :new), decided_by
FROM (SELECT low + high - :old AS other, decided_by FROM separations WHERE :old IN (low, high)) s
ON CONFLICT DO NOTHING
""")
_FORGET = tuple(
    text(f"DELETE FROM {table} WHERE :id IN (low, high)")
    for table in ("pending_merges", "separations")
)


async def put_together(connection: AsyncConnection, pairs: Iterable[tuple[int, int]]) -> None:
    """Note that pairs of customers are due to be merged, unless they are known to be two people."""
    if ordered := sorted({(min(pair), max(pair)) for pair in pairs}):
        low, high = zip(*ordered, strict=True)
        await connection.execute(_DUE, pack({"low": low, "high": high}))


async def put_together_by_orders(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Note whom the orders of these customers put together. Call it when identifiers have moved."""
    rows = await connection.execute(_BY_ORDERS, {"ids": ids})
    await put_together(connection, [(row.low, row.high) for row in rows])


async def separate(connection: AsyncConnection, one: int, other: int, actor: str) -> None:
    """Note that two customers are two people, whatever events say; the caller commits."""
    names = {"one": one, "other": other}
    await connection.execute(_SEPARATE, {**names, "actor": actor})
    await connection.execute(_NOT_DUE, names)


async def divide(connection: AsyncConnection, old: int, new: int, actor: str) -> None:
    """Note whom the old and the new customer of a split are due to be merged with, and whom not."""
    await connection.execute(_INHERIT, {"old": old, "new": new})
    await separate(connection, old, new, actor)
    others = (await connection.execute(_NO_LONGER_DUE, {"old": old})).scalars().all()
    await put_together_by_orders(connection, [old, new, *others])


async def forget(connection: AsyncConnection, customer_id: int) -> None:
    """Forget the pairs of a customer who is removed."""
    for statement in _FORGET:
        await connection.execute(statement, {"id": customer_id})
