"""Walks: lists that hold still although orders keep changing what they are sorted by.

Sorted by what a customer spent, a list moves while somebody reads it: whoever orders between two
pages jumps from a later page to an earlier one, and is never shown. So whoever leaves the first
page begins a walk. It keeps the ids in their order of that moment, and later pages are read from
it: nobody is skipped or shown twice. A walk grows by a chunk when a page lies beyond its end. The
chunk has the first customers in the order of then who are not in the walk yet, so the promise holds
across chunks.

A walk is kept for an hour, and only the newest are kept. It holds ids, nothing personal.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.customer_list import Page, find_ids
from service.db.customers.filters import Filter
from service.db.customers.sorting import Sort

LONGEST = 10_000
"""The most ids of a walk: a thousand pages. Later pages are approximate."""
_CHUNK = 200
_MOST = 500
"""How many walks are kept at most, 80 kB each at most."""

_READ = text("""
SELECT ids[CAST(:first AS integer) + 1 : CAST(:end AS integer)] AS ids, began_at,
  cardinality(ids) AS known, complete
FROM list_walks WHERE name = :name
""")
_LOCK = text("SELECT ids FROM list_walks WHERE name = :name FOR UPDATE")
_BEGIN = text("""
INSERT INTO list_walks (name, began_at, ids, complete)
VALUES (:name, clock_timestamp(), :ids, :complete) ON CONFLICT (name) DO NOTHING
""")
_GROW = text("UPDATE list_walks SET ids = :ids, complete = :complete WHERE name = :name")
_FORGET = text(f"""
DELETE FROM list_walks WHERE began_at < clock_timestamp() - interval '1 hour'
  OR name IN (SELECT name FROM list_walks ORDER BY began_at DESC OFFSET {_MOST})
""")


class Walk(NamedTuple):
    """What a walk goes through, as the page from which it began knows it."""

    name: str
    """A random text."""
    shown: Sequence[int]
    """The ids of the page from which it began."""
    wanted: Filter
    sort: Sort
    descending: bool


class Steps(NamedTuple):
    """A part of a walk."""

    ids: Sequence[int]
    began_at: datetime
    """The moment whose order the walk has."""
    more: bool
    """Whether the walk goes on after this part."""
    cut: bool
    """Whether the list goes on where the walk has reached its greatest length."""


async def read_walk(connection: AsyncConnection, walk: Walk, first: int, end: int) -> Steps:
    """Return the ids from place ``first`` up to before ``end``; begin or prolong the walk first.

    The caller commits. Places count from 0, which is the first customer of the page from which the
    walk began.
    """
    while True:
        row = (
            await connection.execute(_READ, {"name": walk.name, "first": first, "end": end})
        ).one_or_none()
        if row is None:
            await _begin(connection, walk)
        elif row.known <= end and not row.complete and row.known < LONGEST:
            await _grow(connection, walk)
        else:
            more = row.known > end
            return Steps(row.ids, row.began_at, more, cut=not more and not row.complete)


async def _begin(connection: AsyncConnection, walk: Walk) -> None:
    await connection.execute(_FORGET)
    await _write(connection, walk, _BEGIN, walk.shown)


async def _grow(connection: AsyncConnection, walk: Walk) -> None:
    ids = (await connection.execute(_LOCK, {"name": walk.name})).scalar_one()
    await _write(connection, walk, _GROW, ids)


async def _write(
    connection: AsyncConnection, walk: Walk, statement: TextClause, known: Sequence[int]
) -> None:
    page = Page(walk.sort, walk.descending, _CHUNK, without=known)
    found, more = await find_ids(connection, walk.wanted, page)
    parameters = {"name": walk.name, "ids": [*known, *found], "complete": not more}
    await connection.execute(statement, parameters)
