"""``/api/v1/customers``: list and search customers.

`GET` takes the filters in the address, `POST …/search` in the body. Addresses end up in the logs of
proxies, and a search term is a person's name or e-mail, so programs should search with the latter.
"""

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from service.db.customers import customer_list
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.customer_list import BadPositionError, Page
from service.db.customers.narrowing import narrowed
from service.db.customers.similar_names import similar_names
from service.db.customers.sorting import Sort
from service.db.outlook import models
from service.db.outlook.reading import outlooks_of
from service.db.store_clock import read_store_clock
from service.http.api.cursors import LONGEST_CURSOR, Cursors, SealedCursors, bad_cursor
from service.http.api.customer_json import Customers, customer_json
from service.http.api.customer_outlook import listed_json
from service.http.api.models import collection
from service.http.api.own_filters import refuse_misfits
from service.http.auth.guard import Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import replica_snapshot

router = APIRouter(prefix="/api/v1/customers", tags=["customers"], responses=DOCUMENTED)


SORT_PATTERN = f"^-?({'|'.join(Sort)})$"


class CustomerSearch(CustomerFilter):
    """A filter, how to sort, and which page to return."""

    sort: str = Field(
        "-dateCreated",
        pattern=SORT_PATTERN,
        description="The field to sort by; put `-` before it to sort in descending order.",
    )
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, max_length=LONGEST_CURSOR)


class SearchInAddress(CustomerSearch):
    """The same search as parameters of an address, of which unknown ones are ignored."""

    ignores_unknown: ClassVar[bool] = True


@router.get("", response_model=Customers)
async def list_customers(
    request: Request,
    _: Reader,
    cursors: SealedCursors,
    search: Annotated[SearchInAddress, Query()],
) -> Response:
    """List customers. Pages neither repeat nor skip anybody whose place does not change meanwhile.

    Orders do not change `name`, `email` and `dateCreated` of known customers. They do change
    `totalOrders`, `totalSpent`, `lastOrderDate` and `segment`: whoever orders between two pages of
    a list sorted by these moves, and may come twice or not at all. So does whoever a refresh gives
    another `chance` or `expectedValue`. To get everybody while orders come in, sort by
    `dateCreated`, or export.

    Sorted by `chance` or `expectedValue`, only customers with an outlook are listed, and `total`
    counts these.

    Filters by own fields are parameters, too, such as `field.shoe_sizeFrom=40`: `/fields` lists the
    fields, and `POST /customers/search` says what there can be.

    Send `nextCursor` as `cursor` to get the next page. If nobody matches the search, `similar` has
    customers with similar names. A search term in the address ends up in the
    logs of proxies: `POST /api/v1/customers/search` keeps it out of them.
    """
    return await answer_search(request, cursors, search, "query.cursor")


@router.post("/search", response_model=Customers)
async def search_customers(
    request: Request, _: Reader, cursors: SealedCursors, search: CustomerSearch
) -> Response:
    """List customers, as `GET /api/v1/customers` does, with the filters in the body.

    Nothing in the address says whom you look for.
    """
    return await answer_search(request, cursors, search, "body.cursor")


async def answer_search(
    request: Request, cursors: Cursors, search: CustomerSearch, cursor_at: str
) -> Response:
    """Return the page of customers that a search describes. Its cursor is at ``cursor_at``."""
    await refuse_misfits(request, search, cursor_at.removesuffix(".cursor"))
    by, descending = Sort(search.sort.removeprefix("-")), search.sort.startswith("-")
    order = f"{by}{'DESC' if descending else 'ASC'}"
    after = cursors.decode_sorted(search.cursor, order, cursor_at)
    page = Page(by, descending, search.limit, after)
    async with replica_snapshot(request) as connection:
        clock = await read_store_clock(connection)
        chosen = await narrowed(connection, search.chosen(clock))
        try:
            matching = await customer_list.find(connection, chosen, page)
        except BadPositionError:
            raise bad_cursor(cursor_at) from None
        model = await models.newest(connection)
        outlooks = await outlooks_of(connection, [customer.id for customer in matching.items])
        similar = None
        if not matching.total and await customer_list.count_hits(connection, chosen) == 0:
            similar = await similar_names(connection, chosen.search)
    items: list[Any] = [
        customer_json(customer)
        | {"outlook": listed_json(outlooks.get(customer.id), model, clock.today)}
        for customer in matching.items
    ]
    end = matching.last if matching.more else None
    answer = collection(items, matching.total, cursors.encode_sorted(end, order))
    if similar is not None:
        answer["similar"] = [customer_json(customer) for customer in similar]
    return Json(answer)
