"""``/api/v1/customers``: list and search customers.

`GET` takes the filters in the address, `POST …/search` in the body. Addresses end up in the logs of
proxies, and a search term is a person's name or e-mail, so programs should search with the latter.
"""

from datetime import tzinfo
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, ConfigDict, Field
from starlette.responses import Response

from service.core.segment_rules import Segment
from service.db.customers import customer_list
from service.db.customers.customer_list import BadPositionError, Page
from service.db.customers.filters import Filter
from service.db.customers.similar_names import similar_names
from service.db.customers.sorting import Sort
from service.db.store_clock import read_store_clock
from service.http.api.cursors import LONGEST_CURSOR, Cursors, SealedCursors, bad_cursor
from service.http.api.customer_json import Customers, customer_json
from service.http.api.date_ranges import Bound
from service.http.api.models import Camel, collection
from service.http.auth.guard import Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import replica_snapshot

router = APIRouter(prefix="/api/v1/customers", tags=["customers"], responses=DOCUMENTED)


def _searchable(term: str) -> str:
    if "\x00" in term:
        msg = "contains the character U+0000, which no customer contains; remove it"
        raise ValueError(msg)
    return term


_Amount = Annotated[Decimal, Field(ge=0, le=10**12, decimal_places=6)]
_FROM = "ISO 8601, included. A day without a time is one of the store's time zone."
_TO = (
    "ISO 8601, excluded. A day without a time is one of the store's time zone, and is included as "
    "a whole."
)


class CustomerFilter(Camel):
    """The filter of a list or an export. Fields that are absent filter nothing."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"search": "jane@example.com"}, {"segment": ["vip"]}]}
    )

    segment: list[Segment] = Field([], description="One or more segments.")
    search: Annotated[str, AfterValidator(_searchable)] = Field(
        "",
        max_length=200,
        description="What each customer has: words or parts of words of the name, e-mails, phones, "
        "postal code, notes, ids of other systems; the id of an order, or the customer's own. "
        "Every word must be found, in any order; words in double quotes stay together. Case and "
        "accents make no difference, and phones are found in any writing.",
    )
    date_from: Bound | None = Field(None, description=_FROM)
    date_to: Bound | None = Field(None, description=_TO)
    last_order_from: Bound | None = Field(None, description=_FROM)
    last_order_to: Bound | None = Field(None, description=_TO)
    spent_from: _Amount | None = Field(None, description="Included.")
    spent_to: _Amount | None = Field(None, description="Included.")

    def chosen(self, zone: tzinfo) -> Filter:
        """Return the filter for the database. Days are those of ``zone``."""
        return Filter(
            segments=tuple(self.segment),
            search=self.search,
            date_from=self.date_from and self.date_from.start(zone),
            date_to=self.date_to and self.date_to.end(zone),
            last_order_from=self.last_order_from and self.last_order_from.start(zone),
            last_order_to=self.last_order_to and self.last_order_to.end(zone),
            spent_from=self.spent_from,
            spent_to=self.spent_to,
        )


class CustomerSearch(CustomerFilter):
    """A filter, how to sort, and which page to return."""

    sort: str = Field(
        "-dateCreated",
        pattern=f"^-?({'|'.join(Sort)})$",
        description="The field to sort by; put `-` before it to sort in descending order.",
    )
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, max_length=LONGEST_CURSOR)


class SearchInAddress(CustomerSearch):
    """The same search as parameters of an address, of which unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")


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
    a list sorted by these moves, and may come twice or not at all. To get everybody while orders
    come in, sort by `dateCreated`, or export.

    Send `nextCursor` as `cursor` to get the next page. If nobody matches the search, `similar` has
    customers with similar names. A search term in the address ends up in the
    logs of proxies: `POST /api/v1/customers/search` keeps it out of them.
    """
    return await _matching(request, cursors, search, "query.cursor")


@router.post("/search", response_model=Customers)
async def search_customers(
    request: Request, _: Reader, cursors: SealedCursors, search: CustomerSearch
) -> Response:
    """List customers, as `GET /api/v1/customers` does, with the filters in the body.

    Nothing in the address says whom you look for.
    """
    return await _matching(request, cursors, search, "body.cursor")


async def _matching(
    request: Request, cursors: Cursors, search: CustomerSearch, cursor_at: str
) -> Response:
    by, descending = Sort(search.sort.removeprefix("-")), search.sort.startswith("-")
    order = f"{by}{'DESC' if descending else 'ASC'}"
    after = cursors.decode_sorted(search.cursor, order, cursor_at)
    page = Page(by, descending, search.limit, after)
    async with replica_snapshot(request) as connection:
        zone = (await read_store_clock(connection)).zone
        chosen = search.chosen(zone)
        try:
            matching = await customer_list.find(connection, chosen, page)
        except BadPositionError:
            raise bad_cursor(cursor_at) from None
        similar = None
        if not matching.total and await customer_list.count_hits(connection, chosen) == 0:
            similar = await similar_names(connection, chosen.search)
    items: list[Any] = [customer_json(customer) for customer in matching.items]
    end = matching.last if matching.more else None
    answer = collection(items, matching.total, cursors.encode_sorted(end, order))
    if similar is not None:
        answer["similar"] = [customer_json(customer) for customer in similar]
    return Json(answer)
