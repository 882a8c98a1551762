"""Orders, listed: a customer's, and those that belong to nobody yet."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.cursor import Listed, decode_moment, encode_moment

_ORDER = "orders"

_OF_CUSTOMER = "customer_id = :id"
# The event named no customer. Erased people's orders belong to nobody on purpose.
_UNATTRIBUTED = "customer_id IS NULL AND NOT erased AND CAST(:id AS bigint) IS NULL"


async def of_customer(
    connection: AsyncConnection, customer_id: int, limit: int, cursor: str | None
) -> Listed:
    """List a customer's orders, the latest first. Raises BadCursorError."""
    return await _page(connection, _OF_CUSTOMER, customer_id, limit, cursor)


async def unattributed(connection: AsyncConnection, limit: int, cursor: str | None) -> Listed:
    """List those whose events named nobody, the latest first. Raises BadCursorError."""
    return await _page(connection, _UNATTRIBUTED, None, limit, cursor)


async def _page(
    connection: AsyncConnection,
    condition: str,
    customer_id: int | None,
    limit: int,
    cursor: str | None,
) -> Listed:
    at, last = decode_moment(cursor, _ORDER)
    rows = (await connection.execute(*_query(condition, customer_id, at, last, limit))).all()
    counted = await connection.execute(
        text(f"SELECT count(*) FROM orders WHERE {condition}"), {"id": customer_id}
    )
    items: list[dict[str, Any]] = [
        {
            "id": row.id,
            "version": row.version,
            "status": row.status,
            "paymentStatus": row.payment_status,
            "totalAmount": row.total,
            "refundedAmount": row.refunded,
            "counts": row.counts,
            "dateCreated": row.date_created,
            "dateUpdated": row.updated_at,
        }
        for row in rows[:limit]
    ]
    ended = rows[limit - 1] if len(rows) > limit else None
    return Listed(
        items,
        int(counted.scalar_one()),
        encode_moment(ended.date_created, ended.id, _ORDER) if ended else None,
    )


def _query(
    condition: str, customer_id: int | None, at: datetime | None, last: str, limit: int
) -> tuple[Any, dict[str, Any]]:
    after = "AND (date_created, id) < (:at, :last)" if at else ""
    parameters: dict[str, Any] = {"id": customer_id, "one_more": limit + 1}
    if at:
        parameters |= {"at": at, "last": last}
    query = text(
        "SELECT id, version, status, payment_status, total, refunded, counts, date_created,"
        f" updated_at FROM orders WHERE {condition} {after}"
        " ORDER BY date_created DESC, id DESC LIMIT :one_more"
    )
    return query, parameters
