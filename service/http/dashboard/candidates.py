"""Find the customer whom somebody means: for a merge, or for an order without a customer."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers import customer_list
from service.db.customers.customer_list import Page
from service.db.customers.customer_row import CustomerRow
from service.db.customers.filters import Filter

LONGEST_SEARCH = 200
_SHOWN = 10


async def candidates(
    connection: AsyncConnection, search: str, without: int | None = None
) -> Sequence[CustomerRow]:
    """Return the first customers that a search finds; none if nothing is searched."""
    wanted = Filter(search=search.replace("\x00", "")[:LONGEST_SEARCH])
    if not wanted.term:
        return ()
    page = await customer_list.find(connection, wanted, Page(limit=_SHOWN + 1))
    return [row for row in page.items if row.id != without][:_SHOWN]
