"""``/``: key figures, the list of customers, charts of the segments, recent activity."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.db.customers import customer_list
from service.db.customers.customer_list import Page
from service.db.locks import read_clock
from service.db.operations.activity import latest
from service.db.statistics.counters import read_figures
from service.db.statistics.key_figures import segment_shares
from service.http.dashboard.cards import cards
from service.http.dashboard.charts import ring
from service.http.dashboard.formats import formats_of
from service.http.dashboard.list_query import ROWS, DateSpan, ListQuery, export_address
from service.http.dashboard.render import page
from service.http.dashboard.viewer import Viewer
from service.http.state import snapshot, state_of

router = APIRouter(include_in_schema=False)

_EVENTS = 7
"""How many recent events are shown."""


@router.get("/")
async def list_customers(request: Request, actor: Viewer) -> Response:
    """Show the page of customers that the query describes."""
    state = state_of(request)
    wanted = ListQuery.read(request.query_params)
    zone = formats_of(request, state.config.store_currency).zone
    async with snapshot(request) as connection:
        now = await read_clock(connection)
        window = wanted.window(now, zone)
        chosen = wanted.filter(window)
        matching = await customer_list.find(
            connection,
            chosen,
            Page(wanted.sort, wanted.descending, ROWS, skip=ROWS * (wanted.number - 1)),
        )
        figures = await read_figures(connection, window)
        medians = await state.medians.get(connection, window)
        key_cards = await cards(connection, figures, window, now)
        events = (await latest(connection, _EVENTS))[:_EVENTS]
    segments = segment_shares(figures, medians)
    return page(
        request,
        actor,
        "customers.html",
        wanted=wanted,
        spans=DateSpan,
        matching=matching,
        first=ROWS * (wanted.number - 1) + 1,
        last_page=max(-(-matching.total // ROWS), 1),
        export=export_address(chosen),
        now=now,
        cards=key_cards,
        window=window,
        segments=segments,
        events=events,
        ring=ring({share.segment: share.customers for share in segments}),
        highest_ltv=max(share.average_ltv for share in segments) or 1,
    )
