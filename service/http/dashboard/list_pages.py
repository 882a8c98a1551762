"""Pages of the customers page that hold still while orders come in.

The address of a page has a number and a cursor. The number is for people; the cursor says where the
page begins. It is sealed, because it may hold a name. There are two kinds:

* Sorted by name, e-mail or date of creation, a page begins after the last customer of the page
  before it, or ends before the first customer of the page after it. Orders do not change these.
* Sorted by what orders or a refresh change, the first or the last page begins a walk: see
  `list_walks`.

Without a cursor, the first and the last page are read as the list is now. Any other page is found
by counting from the first, which is approximate.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers import customer_list
from service.db.customers.customer_list import Page, SortPosition
from service.db.customers.customer_row import CustomerRow
from service.db.customers.filters import Filter
from service.db.customers.list_walks import Steps, Walk, read_walk
from service.db.customers.sorting import KEYS
from service.http.dashboard.list_query import LAST, ROWS, ListQuery
from service.http.seal import Seal


class After(NamedTuple):
    """A page that continues after a customer, or with ``back`` ends before one."""

    position: SortPosition
    back: bool


class Step(NamedTuple):
    """A page of a walk, which began from the first page, or with ``back`` from the last one."""

    name: str
    ids: Sequence[int]
    """The customers of the page from which the walk began."""
    number: int
    """How many pages this one is away from there."""
    back: bool


Cursor = After | Step | None


class Size(NamedTuple):
    """How large a list is."""

    hits: int | None
    """How many customers the search finds. None: nothing is searched."""
    total: int
    """How many customers match and are listed."""


@dataclass(frozen=True)
class ListPage:
    """A page of the list, and the pages around it."""

    items: Sequence[CustomerRow]
    total: int
    """How many customers match now."""
    number: int
    previous: ListQuery | None
    next: ListQuery | None
    approximate: bool = False
    """Somebody jumped to it: customers may have moved across its borders."""
    as_of: datetime | None = None
    """The moment whose order a walk has. None: the list cannot move, or this is how it is now."""
    gone: int = 0
    """How many of its customers were merged or erased after that moment."""

    @property
    def first(self) -> int:
        """The place of its first customer in the list, counted from 1."""
        return max(min(ROWS * (self.number - 1), self.total - len(self.items)), 0) + 1

    @property
    def last_number(self) -> int:
        """The number of the last page."""
        return max(-(-self.total // ROWS), 1)


def read_cursor(wanted: ListQuery, seal: Seal) -> Cursor:
    """Return what the cursor of a query says. None if there is none, or none of this list."""
    opened = seal.open(wanted.cursor, _purpose(wanted)) if wanted.cursor else None
    if opened is None:
        return None
    if not KEYS[wanted.sort].moves:
        value, customer, back = orjson.loads(opened)
        return After(SortPosition(value, customer), back)
    return Step(*orjson.loads(opened))


async def read_steps(
    connection: AsyncConnection, wanted: ListQuery, chosen: Filter, step: Step
) -> Steps:
    """Return the ids of a page of a walk; the caller commits."""
    walk = Walk(step.name, step.ids, chosen, wanted.sort, wanted.descending != step.back)
    first = len(step.ids) + (step.number - 1) * ROWS if step.number else 0
    return await read_walk(connection, walk, first, len(step.ids) + step.number * ROWS)


async def read_page(
    connection: AsyncConnection,
    wanted: ListQuery,
    chosen: Filter,
    seal: Seal,
    at: Cursor,
    walked: Steps | None,
    *,
    size: Size,
) -> ListPage:
    """Return a page. ``at`` is what its cursor says; ``walked`` has its ids, if `at` is a step."""
    hits, total = size
    if isinstance(at, Step) and walked:
        return await _step(connection, wanted, seal, at, walked, total)
    last_number = max(-(-total // ROWS), 1)
    number = last_number if wanted.number == LAST else wanted.number
    jumped = at is None and number not in {1, last_number}
    # What comes before a customer, and the end of the list, are read backwards.
    back = at.back if isinstance(at, After) else number == last_number > 1
    page = Page(
        wanted.sort,
        wanted.descending != back,
        limit=total - ROWS * (last_number - 1) if back and not at else ROWS,
        after=at.position if isinstance(at, After) else None,
        skip=ROWS * (number - 1) if jumped else 0,
    )
    found = await customer_list.find(connection, chosen, page, hits, total)
    customers = found.items[::-1] if back else found.items
    ends = (found.last, found.first) if back else (found.first, found.last)
    before = found.more if back else at is not None or number > 1
    after = found.more if not back else at is not None

    def beside(new_number: int, *, back: bool) -> ListQuery:
        place = ends[0] if back else ends[1]
        if not KEYS[wanted.sort].moves and place:
            return _link(wanted, seal, new_number, [*place, back])
        if jumped:
            return wanted.with_(number=max(new_number, 1))
        ids = [customer.id for customer in found.items]
        return _link(wanted, seal, new_number, [secrets.token_urlsafe(12), ids, 1, back])

    return ListPage(
        customers,
        total,
        number,
        previous=beside(number - 1, back=True) if before and customers else None,
        next=beside(number + 1, back=False) if after and customers else None,
        approximate=jumped,
    )


async def _step(
    connection: AsyncConnection,
    wanted: ListQuery,
    seal: Seal,
    at: Step,
    walked: Steps,
    total: int,
) -> ListPage:
    """Return a page of a walk."""
    found = await customer_list.find_these(connection, walked.ids)

    def beside(way: int) -> ListQuery:
        number = wanted.number + (-way if at.back else way)
        return _link(wanted, seal, number, [*at._replace(number=at.number + way)])

    onward = beside(1) if walked.more else None
    if walked.cut:
        onward = wanted.with_(number=max(wanted.number + (-1 if at.back else 1), 1))
    returning = beside(-1) if at.number else None
    return ListPage(
        found[::-1] if at.back else found,
        total,
        wanted.number,
        previous=onward if at.back else returning,
        next=returning if at.back else onward,
        as_of=walked.began_at,
        gone=len(walked.ids) - len(found),
    )


def _link(wanted: ListQuery, seal: Seal, number: int, cursor: list[object]) -> ListQuery:
    sealed = seal.close(orjson.dumps(cursor), _purpose(wanted))
    return wanted.with_(number=max(number, 1), cursor=sealed)


def _purpose(wanted: ListQuery) -> str:
    """Return what a cursor is sealed for: this list in this order."""
    return f"page of {wanted.with_().address}"
