"""``/``: key figures, the list of customers, charts of the segments, recent activity."""

from dataclasses import replace

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import RedirectResponse, Response

from service.core.scopes import Actor, Scope
from service.db.customers import customer_list
from service.db.customers.filtered_figures import customers_in, filtered_figures
from service.db.customers.filters import few_hits
from service.db.customers.list_walks import Steps
from service.db.customers.narrowing import narrowed
from service.db.customers.other_currencies import money_apart
from service.db.customers.own_fields.field_filter import PREFIX
from service.db.customers.similar_names import similar_names
from service.db.customers.sorting import KEYS
from service.db.customers.tags import catalogue
from service.db.engine import in_transaction
from service.db.operations.activity import latest
from service.db.outlook import models
from service.db.outlook.reading import outlooks_of
from service.db.statistics.key_figures import segment_shares
from service.db.store_clock import read_store_clock
from service.http.api.csv_export import exported
from service.http.auth.guard import within
from service.http.budgets import EXPORTS, STATISTICS
from service.http.dashboard.cards import cards
from service.http.dashboard.charts import ring
from service.http.dashboard.date_spans import DateSpan
from service.http.dashboard.filter_form import CONTROLS, USUAL, labels_with
from service.http.dashboard.formats import formats_of, store_clock
from service.http.dashboard.list_pages import Cursor, Size, Step, read_cursor, read_page, read_steps
from service.http.dashboard.list_query import LAST, ListQuery
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import page
from service.http.dashboard.saved_views_page import current_of, replaceable, shown_views
from service.http.dashboard.viewer import Exporter, Form, Viewer
from service.http.state import snapshot, state_of

router = APIRouter(include_in_schema=False)

_EVENTS = 7
"""How many recent events are shown."""
_INVALID = 422


@router.get("/", dependencies=[within(STATISTICS)])
async def list_customers(request: Request, actor: Viewer) -> Response:
    """Show the page of customers that the address describes."""
    wanted = replace(ListQuery.read(request.query_params, await own_fields_of(request)), picked=())
    if wanted.search:  # an address that somebody wrote: move the search to where nobody logs it
        return RedirectResponse(wanted.address, status_code=303)
    return await _show(request, actor, wanted)


@router.post("/", dependencies=[within(STATISTICS)])
async def search_customers(request: Request, actor: Viewer, fields: Form) -> Response:
    """Show the page of customers that the form describes."""
    wanted = replace(ListQuery.read(fields, await own_fields_of(request)), picked=())
    if not wanted.search:
        return RedirectResponse(wanted.address, status_code=303)
    return await _show(request, actor, wanted)


@router.post("/export", dependencies=[within(EXPORTS)])
async def export(request: Request, actor: Exporter, fields: Form) -> Response:
    """Export the selected customers, or all pages of those that the form describes."""
    wanted = ListQuery.read(fields, await own_fields_of(request))
    if wanted.wrong:  # without that filter, others would be in the file, too
        return await _show(request, actor, wanted)
    return await exported(request, actor, wanted.filter)


async def _show(request: Request, actor: Actor, wanted: ListQuery) -> Response:
    state = state_of(request)
    seal = await state.seal.get()
    at = read_cursor(wanted, seal)
    # A walk is written before the page is read: the page is read in a snapshot of its own.
    walked = await in_transaction(state.engine, _walk, wanted, at) if at else None
    async with snapshot(request) as connection:
        clock = await store_clock(request, connection)
        window = wanted.window(clock)
        chosen = await narrowed(connection, wanted.filter(clock))
        hits = await customer_list.count_hits(connection, chosen)
        few = few_hits(hits) and (not chosen.conditions or chosen.ids is not None)
        # The list follows while somebody types, so the first letter of a name is searched, too. In
        # a large shop that letter finds nearly everybody. With dates, all hits have to be read in
        # any case, to count those of these days.
        added_up = few_hits(hits) or window is not None
        if added_up:
            figures, medians, as_of = await filtered_figures(
                connection, chosen, hits, state.medians if few else None
            )
            total = customers_in(figures, chosen)
        else:
            figures, medians, as_of = None, {}, None
            total = await customer_list.count(connection, chosen, hits)
        listed = total
        if KEYS[wanted.sort].listed:
            listed = await customer_list.count(connection, chosen, hits, wanted.sort)
        matching = await read_page(
            connection, wanted, chosen, seal, at, walked, size=Size(hits, listed)
        )
        key_cards = await cards(connection, chosen, figures, total, window, clock, hits=hits)
        apart = await money_apart(connection, chosen, hits) if added_up else []
        similar = await similar_names(connection, chosen.search) if hits == 0 else ()
        accounts = Scope.ADMIN in actor.scopes
        events = (await latest(connection, _EVENTS, accounts=accounts))[:_EVENTS]
        model = await models.newest(connection)
        outlooks = await outlooks_of(connection, [customer.id for customer in matching.items])
        views = await shown_views(connection, actor, wanted.own)
        suggested, _ = await catalogue.list_tags(connection, most=catalogue.MOST_SUGGESTED)
    segments = segment_shares(figures, medians) if figures else []
    return page(
        request,
        actor,
        "customers.html",
        status=_INVALID if wanted.wrong else 200,
        wanted=wanted,
        LAST=LAST,
        chips=wanted.chips(formats_of(request)),
        controls=CONTROLS,
        usual=USUAL,
        set_filters={*wanted.chosen.query, *wanted.wrong},
        own_filters=[each for each in wanted.fields if each[0].startswith(PREFIX)],
        labels=labels_with(wanted.own),
        views=views,
        shown_view=current_of(views, wanted),
        replaceable=replaceable(views, wanted, actor),
        suggested=suggested,
        values=wanted.chosen.query,
        spans=DateSpan,
        matching=matching,
        chosen_total=total,
        outlooks=outlooks,
        predicted=model is not None and model.fitted is not None,
        money=model is not None and model.verdict.shows_money,
        similar=similar,
        now=clock.now,
        cards=key_cards,
        figures_as_of=as_of,
        apart=apart,
        compared=wanted.compared(clock.today),
        segments=segments,
        events=events,
        ring=ring({share.segment: share.customers for share in segments}),
        highest_ltv=max((share.average_ltv for share in segments), default=0) or 1,
        medians=medians,
    )


async def _walk(connection: AsyncConnection, wanted: ListQuery, at: Cursor) -> Steps | None:
    if not isinstance(at, Step):
        return None
    chosen = wanted.filter(await read_store_clock(connection))
    return await read_steps(connection, wanted, chosen, at)
