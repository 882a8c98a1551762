"""Outlooks are what the formulas say, for everybody, and only what reads differently is written."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import numpy as np
import pytest
from sqlalchemy import event

from service.core.outlook import (
    FAR_DAYS,
    HORIZONS,
    NEAR_DAYS,
    FitCause,
    Lacking,
    ModelState,
    Verdict,
)
from service.core.rfm import Cuts
from service.db.customers import editing
from service.db.customers.identity.merge import merge
from service.db.outlook import due, models
from service.db.outlook.facts import next_chunk
from service.db.outlook.fit import model_of
from service.db.outlook.models import Fitted
from service.db.outlook.reading import outlooks_of
from service.db.outlook.refresh import refresh_chunk
from service.insight.arrays import Customers, Floats
from service.insight.expectation import chance, expected_orders, waits
from service.insight.spending import mean_value
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.outlook.shop import Purchase, fit_now, open_shop, refresh_all

DAY = timedelta(days=1)


@pytest.fixture
async def shop(service: Service, now: datetime) -> list[Purchase]:
    return await open_shop(service, Random(4), now)


async def test_outlooks_are_what_the_formulas_say_of_everybody(
    service: Service, shop: list[Purchase], now: datetime
) -> None:
    model = await fit_now(service)
    assert model.fitted is not None
    assert model.verdict in {Verdict.GOOD, Verdict.FAIR}
    (step,) = await refresh_all(service, now)
    assert step.examined == step.written == len({it.customer for it in shop})
    stored = {
        int(row["email"][1:].partition("@")[0]): row
        for row in await service.rows(
            "SELECT c.email, o.* FROM customer_outlook o JOIN customers c ON c.id = o.customer_id"
        )
    }
    of: dict[int, list[Purchase]] = defaultdict(list)
    for purchase in shop:
        of[purchase.customer].append(purchase)
    said = _by_hand(model.fitted, list(of.values()), now)
    for place, (customer, orders) in enumerate(of.items()):
        row = stored.pop(customer)
        assert [row[name] for name in _FIGURES] == pytest.approx(
            [said[name][place] for name in _FIGURES], rel=0.011, abs=0.006
        )
        last = max(it.at for it in orders)
        assert row["order_days"] == said["days"][place]
        assert row["expected_on"] == (last + said["expected"][place] * DAY).date()
        if row["order_days"] > 1:
            assert row["overdue_on"] == (last + said["overdue"][place] * DAY).date()
        else:
            assert row["overdue_on"] is None
        assert row["rfm"] == _rfm(model.fitted.cuts, orders)
    assert stored == {}
    (sums,) = await service.rows("SELECT expected_orders, expected_revenue FROM insight_refresh")
    for place, days in enumerate(HORIZONS):
        within = said[f"orders within {days}"]
        assert sums["expected_orders"][place] == pytest.approx(within.sum(), rel=0.01)
        revenue = within @ said["worth"]
        assert sums["expected_revenue"][place] == pytest.approx(revenue, rel=0.01)


_FIGURES = ("chance", "orders", "value")


def _by_hand(fitted: Fitted, each: list[list[Purchase]], now: datetime) -> dict[str, Floats]:
    """Return what the formulas say of each customer."""
    model = model_of(fitted)
    days = np.array(
        [float(len({it.at.astimezone(UTC).date() for it in orders})) for orders in each]
    )
    first = [min(it.at for it in orders) for orders in each]
    last = [max(it.at for it in orders) for orders in each]
    known = Customers.of(
        days - 1,
        [(end - begin) / DAY for begin, end in zip(first, last, strict=True)],
        [(now - begin) / DAY for begin in first],
    )
    spent = np.array([float(sum(Decimal(it.total) for it in orders)) for orders in each])
    worth = mean_value(model.spending, days, spent)
    wait = waits(model.buying, known)
    within = {it: expected_orders(model.buying, known, it) for it in HORIZONS}
    return {
        "days": days,
        "chance": chance(model.buying, known, NEAR_DAYS),
        "orders": within[FAR_DAYS],
        "value": within[FAR_DAYS] * worth,
        "worth": worth,
        "expected": wait.expected,
        "overdue": wait.overdue,
        **{f"orders within {it}": within[it] for it in HORIZONS},
    }


def _rfm(cuts: Cuts, orders: list[Purchase]) -> int:
    spent = sum((Decimal(it.total) for it in orders), Decimal(0))
    return cuts.scores(max(it.at for it in orders), len(orders), spent).number


@pytest.mark.usefixtures("shop")
async def test_only_what_reads_differently_is_written(service: Service, now: datetime) -> None:
    await fit_now(service)
    statements: list[str] = []

    def seen(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SELECT pg_catalog"):
            statements.append(statement)

    first = await refresh_all(service, now, most=300)
    assert [step.examined for step in first] == [300, 300, 100]
    event.listen(service.engine.sync_engine, "before_cursor_execute", seen)
    again = await refresh_all(service, now, most=300)
    event.remove(service.engine.sync_engine, "before_cursor_execute", seen)
    assert sum(step.written + step.removed for step in again) == 0
    assert len(statements) == 3 * len(again) + 2  # the model, once; contacts, at the end
    later = await refresh_all(service, now + timedelta(minutes=20))
    assert later[0].written < 70
    tomorrow = await refresh_all(service, now + DAY)
    assert later[0].written < tomorrow[0].written < 600


async def test_an_order_an_erasure_and_a_merge_change_outlooks(
    service: Service, shop: list[Purchase], now: datetime
) -> None:
    await fit_now(service)
    await refresh_all(service, now)
    await service.ingest(entry("ORD-NEW", email="c8@x.org", total="40.00", created=now))
    low, high, erased = [
        int(row["id"])
        for row in await service.rows(
            "SELECT id FROM customers WHERE email IN ('c5@x.org', 'c6@x.org', 'c7@x.org')"
            " ORDER BY id"
        )
    ]
    await service.execute(
        """WITH round AS (INSERT INTO contact_rounds (list, marked_by, contacted, left_out)
             VALUES ('overdue', 'test', 3, 0) RETURNING id)
           INSERT INTO contacts SELECT id, unnest(CAST(:ids AS bigint[])), true FROM round""",
        ids=[low, high, erased],
    )
    async with service.engine.begin() as connection:
        await editing.delete(connection, "test", erased)
        await merge(connection, low, high, "test")
    rows = await service.rows("SELECT customer_id FROM customer_outlook")
    assert {erased, high}.isdisjoint({row["customer_id"] for row in rows})
    assert await service.rows("SELECT customer_id FROM contacts") == [{"customer_id": low}]
    (step,) = await refresh_all(service)
    assert 1 <= step.written <= 20
    (row,) = await service.rows("SELECT * FROM customer_outlook WHERE customer_id = :id", id=low)
    async with service.engine.connect() as connection:
        chunk = await next_chunk(connection, low - 1, 1)
    assert row["order_days"] == chunk.facts[0].order_days
    await _who_has_no_order_left_has_no_outlook(service, shop, now)


async def _who_has_no_order_left_has_no_outlook(
    service: Service, shop: list[Purchase], now: datetime
) -> None:
    only = next(
        it
        for it in shop
        if it.customer > 100 and sum(it.customer == other.customer for other in shop) == 1
    )
    await service.ingest(
        entry(
            f"ORD-{shop.index(only)}",
            version=2,
            email=f"c{only.customer}@x.org",
            status="cancelled",
            total=only.total,
            created=only.at,
            updated=now,
        )
    )
    (row,) = await service.rows(
        "SELECT id FROM customers WHERE email = :email", email=f"c{only.customer}@x.org"
    )
    async with service.engine.connect() as connection:
        assert await outlooks_of(connection, [row["id"]]) == {}
    assert await service.findings() == []  # the row stays until the next circle
    (step,) = await refresh_all(service, now)
    assert step.removed == 1


async def test_an_outlook_of_nobody_that_a_circle_left_is_a_fault(
    empty_service: Service, now: datetime
) -> None:
    await open_shop(empty_service, Random(4), now)
    await fit_now(empty_service)
    await refresh_all(empty_service, now)
    number = (await empty_service.rows("SELECT max(customer_id) AS id FROM customer_outlook"))[0]
    await empty_service.execute(
        "UPDATE customer_outlook SET customer_id = :other WHERE customer_id = :id",
        id=number["id"],
        other=number["id"] + 1,
    )
    (finding,) = await empty_service.findings()
    assert finding.number == 11
    assert finding.offenders == [{"customer": number["id"] + 1}]


@pytest.mark.usefixtures("shop")
async def test_a_new_model_begins_the_circle_anew(service: Service, now: datetime) -> None:
    await fit_now(service)
    async with service.engine.begin() as connection:
        step, known = await refresh_chunk(connection, now=now, most=300)
    assert not step.done
    assert (await situation(service)).under_way
    second = await fit_now(service, FitCause.HAND)
    async with service.engine.begin() as connection:
        step, known = await refresh_chunk(connection, known, now=now, most=300)
    assert step.examined == 300
    assert known is not None
    assert known.id == second.id
    (row,) = await service.rows("SELECT next_id, model FROM insight_refresh")
    ids = await service.rows("SELECT id FROM customers ORDER BY id LIMIT 300")
    assert row == {"next_id": ids[-1]["id"], "model": second.id}


async def situation(service: Service) -> due.Situation:
    async with service.engine.connect() as connection:
        return await due.read_situation(connection)


@pytest.mark.usefixtures("shop")
async def test_when_there_is_too_little_nothing_is_predicted(
    service: Service, now: datetime
) -> None:
    assert (await situation(service)).fit_due
    await fit_now(service)
    await refresh_all(service, now)
    assert not (await situation(service)).fit_due
    await service.execute("UPDATE orders SET date_created = date_created - interval '40 days'")
    await service.execute(
        "UPDATE customers SET first_order_date = first_order_date - interval '40 days',"
        " last_order_date = last_order_date - interval '40 days',"
        " date_created = date_created - interval '40 days'"
    )
    assert (await situation(service)).fit_due
    model = await fit_now(service)
    assert model.state is ModelState.TOO_LITTLE
    assert model.lacking == [Lacking.RECENT]
    assert not (await situation(service)).fit_due
    assert (await situation(service)).refresh_due
    steps = await refresh_all(service, most=400)
    assert sum(step.removed for step in steps) == 700
    assert not (await situation(service)).refresh_due
    await service.empty()


async def test_a_shop_with_few_customers_is_never_fitted_unasked(
    service: Service, now: datetime
) -> None:
    await service.ingest(entry(email="a@x.org", created=now))
    found = await situation(service)
    assert found.gate.customers == 1
    assert found.gate.lacking == [Lacking.CUSTOMERS, Lacking.REPEATERS, Lacking.HISTORY]
    assert not found.fit_due
    assert not found.refresh_due
    async with service.engine.begin() as connection:
        assert await due.ask_for_fit(connection)
        assert await due.ask_for_fit(connection) is None
    assert (await situation(service)).fit_due
    model = await fit_now(service, FitCause.HAND)
    assert model.state is ModelState.TOO_LITTLE
    assert not (await situation(service)).fit_due
    async with service.engine.connect() as connection:
        assert await models.newest(connection) == model
