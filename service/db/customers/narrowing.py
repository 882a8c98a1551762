"""Look once for the customers of a filter, if they are few.

A page with its cards asks several questions about the customers of one filter. No index helps with
most filters, and a search reads much of its index, so each question would take as long as the first
one. If that finds few, the others are asked about these alone.
"""

from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.customer_list import count_hits
from service.db.customers.filters import Filter
from service.db.customers.search_query import search_condition

_FEW = 10_000
"""Up to so many ids are sent with each question."""


async def narrowed(connection: AsyncConnection, wanted: Filter) -> Filter:
    """Return the filter with what its search and its conditions find, if that is few.

    Segments are left aside: figures are read by segment. The search and the other conditions are
    looked for apart, because figures of another time span are about the same search.
    """
    if wanted.term:
        wanted = await _searched(connection, wanted)
    if not wanted.conditions:
        return wanted
    apart = replace(wanted, segments=(), search="", hits=None, found=None)
    where, parameters = apart.where()
    query = text(f"SELECT c.id FROM customers c WHERE {where} LIMIT :most")
    ids = (await connection.execute(query, {**parameters, "most": _FEW + 1})).scalars().all()
    return replace(wanted, ids=ids) if len(ids) <= _FEW else wanted


async def _searched(connection: AsyncConnection, wanted: Filter) -> Filter:
    """Return the filter with how many customers its search finds, and with these if they are few.

    They are not collected while they are counted: collecting many takes as long as counting them.
    """
    hits = await count_hits(connection, wanted)
    if hits is None or hits > _FEW:
        return replace(wanted, hits=hits)
    condition, parameters = search_condition(wanted.term)
    query = text(f"SELECT s.customer_id FROM customer_search s WHERE {condition}")
    found = (await connection.execute(query, parameters)).scalars().all()
    return replace(wanted, hits=hits, found=found)
