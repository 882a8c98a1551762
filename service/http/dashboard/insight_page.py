"""``/insight``: whom to write to today, what is at stake, and how far to trust the figures."""

import csv
import io
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.outlook import (
    CUSTOMERS_NEEDED,
    HISTORY_DAYS_NEEDED,
    HORIZONS,
    NEAR_DAYS,
    RECENT_DAYS,
    REPEATERS_NEEDED,
    Gate,
    Lacking,
    Verdict,
)
from service.core.work_lists import REST_DAYS, RESULT_DAYS, WorkList
from service.db.accounts.audit import note
from service.db.engine import in_transaction
from service.db.outlook import contacts, models, reading, work_lists
from service.db.outlook.due import read_situation
from service.http.api.insight import lacking_of, want_fit
from service.http.api.work_lists import marked_as_contacted
from service.http.auth.guard import within
from service.http.budgets import EXPORTS, STATISTICS
from service.http.dashboard.charts import Scale
from service.http.dashboard.formats import Formats, formats_of, store_clock
from service.http.dashboard.insight_words import LISTS, filter_of, verdict_sentence
from service.http.dashboard.render import done, page
from service.http.dashboard.rfm_grid import rfm_grid
from service.http.dashboard.trust_picture import HEIGHT, WIDTH, picture
from service.http.dashboard.viewer import Admin, Editor, Exporter, Form, Viewer
from service.http.problems import ProblemError
from service.http.state import replica_snapshot, snapshot, state_of
from service.transfer.formulas import escaped_sql

router = APIRouter(prefix="/insight", include_in_schema=False)

_PAGE = 50
_ROUNDS = 10
_MOST_PAGES = 200
_COLUMNS = (
    *("ID", "Name", "Email", "Phone", "Email Opt In", "SMS Opt In"),
    *("Total Orders", "Total Spent"),
)
ListName = Annotated[WorkList, Path(alias="name")]


@router.get("", dependencies=[within(STATISTICS)])
async def show(request: Request, actor: Viewer) -> Response:
    """Show the page: figures, work lists, the test, the RFM groups, and what came of contacts."""
    async with replica_snapshot(request) as connection:
        clock = await store_clock(request, connection)
        model = await models.newest(connection)
        situation = await read_situation(connection)
        lacking = lacking_of(model, situation)
        if model is None or model.fitted is None:
            return page(
                request,
                actor,
                "insight_lacking.html",
                sentences=_sentences(lacking, situation.gate, formats_of(request)),
            )
        refresh = await reading.last_refresh(connection)
        overview = await work_lists.overview(connection)
        rounds = await contacts.rounds(connection, _ROUNDS)
        overdue = await reading.count_overdue(connection, clock.today)
    test = model.fitted.hold_out
    return page(
        request,
        actor,
        "insight.html",
        model=model,
        verdict=model.verdict,
        money=model.verdict.shows_money,
        trust=verdict_sentence(model, formats_of(request)),
        forecasts={each.days: each for each in refresh.forecasts},
        near_days=NEAR_DAYS,
        refreshed_at=refresh.completed_at,
        overdue=overdue,
        overview=overview,
        lists=LISTS,
        WorkList=WorkList,
        Verdict=Verdict,
        test=test,
        bars=picture(test) if test else [],
        scale=Scale.of(1, 5),
        width=WIDTH,
        height=HEIGHT,
        grid=rfm_grid(overview.groups),
        everybody=sum(each.customers for each in overview.groups.values()),
        rounds=rounds,
        result_days=RESULT_DAYS,
        wanted=situation.fit_wanted_at is not None,
        counted_from={each.id: each.marked_at + timedelta(days=RESULT_DAYS[0]) for each in rounds},
    )


def _sentences(lacking: list[Lacking], gate: Gate, f: Formats) -> list[str]:
    """Return what the shop has too little of, and how much there is."""
    each = {
        Lacking.CUSTOMERS: f"{f.number(gate.customers)} of {CUSTOMERS_NEEDED} customers with an "
        "order",
        Lacking.REPEATERS: f"{f.number(gate.repeaters)} of {REPEATERS_NEEDED} customers who "
        "ordered on two days",
        Lacking.HISTORY: f"{f.number(int(gate.history_days))} of {HISTORY_DAYS_NEEDED} days since "
        "the first order",
        Lacking.RECENT: f"an order in the last {RECENT_DAYS} days: the last one is "
        f"{f.number(int(gate.silent_days))} days old",
    }
    return [each[what] for what in lacking]


@router.get("/lists/{name}", dependencies=[within(STATISTICS)])
async def show_list(
    request: Request,
    actor: Viewer,
    name: ListName,
    number: Annotated[int, Query(alias="page", ge=1, le=_MOST_PAGES)] = 1,
) -> Response:
    """Show the customers of a work list, with their consent, and a form to mark them."""
    async with snapshot(request) as connection:
        clock = await store_clock(request, connection)
        model = await models.newest(connection)
        top = (await work_lists.overview(connection)).top
        found = await work_lists.members(
            connection, name, clock.now, top, _PAGE, (number - 1) * _PAGE
        )
    return page(
        request,
        actor,
        "work_list.html",
        name=name,
        words=LISTS[name],
        chosen_by=filter_of(name, top),
        rows=found.rows,
        total=found.total,
        number=number,
        first=(number - 1) * _PAGE + 1,
        last_page=max(-(-found.total // _PAGE), 1),
        money=model is not None and model.verdict.shows_money,
        rest_days=REST_DAYS,
        result_days=RESULT_DAYS,
    )


@router.post("/lists/{name}/contacted")
async def mark(request: Request, actor: Editor, name: ListName, fields: Form) -> Response:
    """Mark everybody on the list as contacted, and show whom to contact."""
    marked = await marked_as_contacted(
        request, actor.name, name, leave_out=fields.get("leave_out") == "1"
    )
    if marked is None:
        return done(f"/insight/lists/{name}", "unchanged")
    return done(f"/insight#round-{marked.id}", "contacted")


@router.get("/rounds/{number}/export", dependencies=[within(EXPORTS)])
async def export_round(
    request: Request, actor: Exporter, number: Annotated[int, Path(ge=1, le=2**62)]
) -> Response:
    """Return a CSV file of the customers to contact in a round, without those left out."""
    engine = state_of(request).engine
    async with snapshot(request) as connection:
        found = await contacts.find(connection, number)
        rows = await contacts.people(connection, number, escaped_sql)
    if found is None:
        detail = "No list was marked as contacted with this number."
        raise ProblemError(404, "No such round", detail)
    await in_transaction(
        engine,
        lambda own: note(own, actor.name, "customers.exported", details={"round": number}),
    )
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow(
            (
                customer_ref(row.id),
                row.name,
                row.email,
                row.phone,
                "yes" if row.email_opt_in else "no",
                "yes" if row.sms_opt_in else "no",
                row.total_orders,
                row.total_spent,
            )
        )
    return Response(
        "\ufeff" + text.getvalue(),
        media_type="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="contacted-{number}.csv"',
            "Cache-Control": "no-store",
        },
    )


@router.post("/fit")
async def fit(request: Request, actor: Admin, _: Form) -> Response:
    """Have a worker fit the model anew."""
    try:
        await want_fit(request, actor)
    except ProblemError:  # somebody has asked before
        return done("/insight", "unchanged")
    return done("/insight", "fit-wanted")


assert NEAR_DAYS in HORIZONS  # noqa: S101  the page shows a forecast of so many days
