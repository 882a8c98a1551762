"""Look once for the customers of a filter, if they are few.

A page with its cards asks several questions about the customers of one filter. No index helps with
most filters, so each question would read all customers. If the first one finds few, the others are
asked about these alone.
"""

from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.filters import Filter

_FEW = 10_000
"""Up to so many ids are sent with each question."""


async def narrowed(connection: AsyncConnection, wanted: Filter) -> Filter:
    """Return the filter with the ids of the customers who fulfil its conditions, if they are few.

    Segments and search are left aside: figures are read by segment, and the search has an index.
    """
    if not wanted.conditions:
        return wanted
    where, parameters = replace(wanted, segments=(), search="").where()
    query = text(f"SELECT c.id FROM customers c WHERE {where} LIMIT :most")
    ids = (await connection.execute(query, {**parameters, "most": _FEW + 1})).scalars().all()
    return replace(wanted, ids=ids) if len(ids) <= _FEW else wanted
