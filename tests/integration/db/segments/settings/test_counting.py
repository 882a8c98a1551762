"""Which orders count, by contract and by settings, and the recount when settings change that."""

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.core.counting import NotCounted
from service.db.segments import recount
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.segments.settings.conftest import apply_all, step
from tests.integration.db.segments.settings.test_settings import change, preview, put

STATUSES = ["pending", "completed", "refunded", "cancelled"]
PAYMENTS = [None, "pending", "paid", "failed", "refunded", "partially_refunded"]
AMOUNTS = [("0", "0"), ("80", "0"), ("80", "30"), ("80", "80"), ("80", "95"), ("300", "0")]


async def order_of(web: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    """Return the order as the history of its customer, the first one, has it."""
    orders = (await web.get("/api/v1/customers/CUST-1001/orders")).json()["items"]
    return next(order for order in orders if order["id"] == order_id)


async def figures(web: httpx.AsyncClient) -> tuple[int, float, str]:
    customer = (await web.get("/api/v1/customers/CUST-1001")).json()
    return customer["totalOrders"], customer["totalSpent"], customer["segment"]


async def populate(service: Service, rng: random.Random, now: datetime, orders: int) -> None:
    """Store orders of all kinds. Some of them name nobody, and one customer is erased."""
    await service.ingest(
        *(
            entry(
                f"ORD-{number:04}",
                email=None if number % 7 == 0 else f"c{rng.randrange(orders // 4)}@x.org",
                created=now - timedelta(hours=int(rng.expovariate(1 / 900)), minutes=30),
                status=rng.choice(STATUSES),
                payment_status=rng.choice(PAYMENTS),
                total=total,
                refunded=refunded,
            )
            for number in range(orders)
            for total, refunded in [rng.choice(AMOUNTS)]
        )
    )


async def judged(service: Service) -> dict[str, bool]:
    rows = await service.rows("SELECT id, counts FROM orders")
    return {row["id"]: row["counts"] for row in rows}


@pytest.mark.parametrize(
    ("words", "amounts", "counted", "reason"),
    [
        (("refunded", "paid"), ("100.00", "50.00"), (1, 50.00), None),
        (("completed", "refunded"), ("100.00", "50.00"), (1, 50.00), None),
        (("refunded", None), ("100.00", "0"), (0, 0), NotCounted.REFUNDED_IN_FULL),
        (("completed", "refunded"), ("100.00", None), (0, 0), NotCounted.REFUNDED_IN_FULL),
        (("completed", "partially_refunded"), ("100.00", "100.00"), (0, 0), "refunded_in_full"),
        (("completed", "partially_refunded"), ("60.00", "75.00"), (0, 0), "refunded_in_full"),
        (("completed", "partially_refunded"), ("100.00", "99.99"), (1, 0.01), None),
        (("cancelled", "paid"), ("100.00", "0"), (0, 0), NotCounted.CANCELLED),
        (("cancelled", "failed"), ("100.00", "100.00"), (0, 0), NotCounted.CANCELLED),
        (("completed", "failed"), ("100.00", "100.00"), (0, 0), NotCounted.PAYMENT_FAILED),
        (("completed", "paid"), ("0", "0"), (1, 0), None),
        (("completed", "refunded"), ("0", "0"), (0, 0), NotCounted.REFUNDED_IN_FULL),
        (("completed", "paid"), ("0", "5.00"), (1, 0), None),
        (("pending", None), ("100.00", "0"), (1, 100), None),
    ],
)
async def test_a_refund_takes_what_was_paid_back_and_only_a_whole_one_the_order(
    service: Service,
    web: httpx.AsyncClient,
    words: tuple[str, str | None],
    amounts: tuple[str, str | None],
    counted: tuple[int, float],
    reason: str | None,
) -> None:
    (status, payment), (total, refunded) = words, amounts
    await service.ingest(
        entry(
            "ORD-1",
            email="a@x.org",
            status=status,
            payment_status=payment,
            total=total,
            refunded=refunded,
        )
    )
    assert (await figures(web))[:2] == counted
    order = await order_of(web, "ORD-1")
    assert (order["counts"], order["notCountedBecause"]) == (reason is None, reason)


async def test_the_newest_state_wins_when_more_is_paid_back_than_the_order_costs_now(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", version=1, total="100.00"))
    await service.ingest(
        entry("ORD-1", email="a@x.org", version=2, total="60.00", refunded="75.00")
    )
    assert await figures(web) == (0, 0, "new")
    order = await order_of(web, "ORD-1")
    assert (order["totalAmount"], order["refundedAmount"]) == (60.00, 75.00)
    assert order["notCountedBecause"] == "refunded_in_full"


async def test_three_unpaid_orders_make_a_vip_only_if_placed_orders_count(
    service: Service, web: httpx.AsyncClient
) -> None:
    payments = ["pending", None, "pending"]
    await service.ingest(
        *(
            entry(f"ORD-{n}", email="a@x.org", payment_status=payment, total="300.00")
            for n, payment in enumerate(payments)
        )
    )
    assert await figures(web) == (3, 900, "vip")
    await put(web, countFrom="paid")
    await apply_all(service)
    assert await figures(web) == (0, 0, "new")
    order = await order_of(web, "ORD-1")
    assert (order["counts"], order["notCountedBecause"]) == (False, "unpaid")
    why = (await web.get("/api/v1/customers/CUST-1001/segment")).json()
    assert why["notCounted"] == (
        "3 orders do not count: 3 not paid yet. The settings count paid orders only."
    )
    await service.ingest(entry("ORD-1", email="a@x.org", version=2, total="300.00"))
    assert await figures(web) == (1, 300, "new")
    await put(web, countFrom="placed")
    await apply_all(service)
    assert await figures(web) == (3, 900, "vip")
    moves = await service.rows(
        "SELECT previous, segment, cause FROM segment_changes ORDER BY sequence"
    )
    assert [tuple(move.values()) for move in moves] == [
        (None, "vip", "order"),
        ("vip", "new", "rules"),
        ("new", "vip", "rules"),
    ]


async def test_three_free_orders_make_a_vip_only_if_free_orders_count(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(*(entry(f"ORD-{n}", email="a@x.org", total="0") for n in range(3)))
    assert await figures(web) == (3, 0, "vip")
    await put(web, countFreeOrders=False)
    await apply_all(service)
    assert await figures(web) == (0, 0, "new")
    assert (await order_of(web, "ORD-1"))["notCountedBecause"] == "free"
    await service.ingest(entry("ORD-9", email="a@x.org", total="0"))
    assert await figures(web) == (0, 0, "new")


@pytest.mark.parametrize(
    ("payment", "counts"),
    [
        ("paid", True),
        ("partially_refunded", True),
        ("refunded", True),
        ("pending", False),
        (None, False),
        ("authorized", False),
    ],
)
async def test_what_was_paid_back_in_part_was_paid(
    service: Service, web: httpx.AsyncClient, payment: str | None, *, counts: bool
) -> None:
    await put(web, countFrom="paid")
    await apply_all(service)
    await service.ingest(
        entry("ORD-1", email="a@x.org", payment_status=payment, total="100.00", refunded="50.00")
    )
    assert (await order_of(web, "ORD-1"))["counts"] is counts


async def test_a_preview_says_what_a_recount_does(
    service: Service, web: httpx.AsyncClient, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(10**9)
    rng = random.Random(seed)
    monkeypatch.setattr(recount, "PAGE", 37)
    monkeypatch.setattr(recount, "CHUNK", 11)
    await populate(service, rng, now, 300)
    state = "SELECT id, segment, total_orders, total_spent FROM customers ORDER BY id"
    before = await service.rows(state)
    seen = 0
    for _ in range(6):
        proposal = {
            "countFrom": rng.choice(["placed", "paid"]),
            "countFreeOrders": rng.random() < 0.5,
            "vipOrderCount": rng.randrange(1, 5),
            "autoSegmentation": rng.random() < 0.8,
        }
        previewed = await preview(web, **proposal)
        saved = await put(web, **proposal)
        await apply_all(service)
        after = await service.rows(state)
        matrix = Counter(
            (old["segment"], new["segment"]) for old, new in zip(before, after, strict=True)
        )
        cells = {(cell["from"], cell["to"]): cell["count"] for cell in previewed["items"]}
        assert cells == matrix, (seed, proposal)
        recounted = [
            new["id"]
            for old, new in zip(before, after, strict=True)
            if (old["total_orders"], old["total_spent"])
            != (new["total_orders"], new["total_spent"])
        ]
        # An order may stop counting while another one of the same amount begins to.
        assert previewed["customersRecounted"] >= len(recounted), (seed, proposal)
        for figure, name in (("total_orders", "totalOrders"), ("total_spent", "totalRevenue")):
            assert previewed[name] == {
                "before": float(sum(row[figure] for row in before)),
                "after": float(sum(row[figure] for row in after)),
            }, (seed, proposal)
        figures_shown = {
            customer["id"]: (customer["totalOrders"], customer["totalSpent"])
            for cell in previewed["items"]
            for customer in cell["sample"]
        }
        for row in after:
            if shown := figures_shown.get(f"CUST-{row['id']}"):
                assert shown == (row["total_orders"], float(row["total_spent"]))
        if saved["version"] > previewed["basedOnVersion"]:
            done = await change(web, saved["change"])
            assert done["status"] == "finished"
            assert done["moved"] == previewed["events"]
        (events,) = await service.rows(
            "SELECT count(*) AS n, count(DISTINCT customer_id) AS customers FROM segment_changes"
            " WHERE settings_version = :version AND cause = 'rules'",
            version=saved["version"],
        )
        if saved["version"] > previewed["basedOnVersion"]:
            assert events["n"] == events["customers"] == previewed["events"]
        assert await service.findings() == [], (seed, proposal)
        before, seen = after, seen + len(recounted)
    assert seen


async def test_verify_holds_at_each_step_of_a_recount_while_orders_come_and_people_go(
    service: Service, web: httpx.AsyncClient, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(7)
    monkeypatch.setattr(recount, "PAGE", 40)
    monkeypatch.setattr(recount, "CHUNK", 9)
    await populate(service, rng, now, 120)
    await put(web, countFrom="paid")
    await step(service)
    await step(service)
    assert (await change(web, "2"))["recount"]["examined"] < 120
    assert await service.findings() == []
    (someone,) = await service.rows("SELECT id FROM customers WHERE email_key = 'c1@x.org'")
    assert (await web.delete(f"/api/v1/customers/CUST-{someone['id']}")).status_code == 200
    # A stale event names the owner of an order, and a newer one changes another order.
    await service.ingest(
        entry("ORD-0007", email="c2@x.org", version=0, payment_status="pending"),
        entry("ORD-0119", email="c3@x.org", version=2, payment_status="pending", total="10"),
        entry("ORD-0000", email="c4@x.org", version=2, payment_status="pending", total="10"),
    )
    assert await service.findings() == []
    # Newer settings begin anew, although what counts stays.
    await put(web, vipOrderCount=2)
    assert (await change(web, "2"))["status"] == "superseded"
    running = await change(web, "3")
    assert (running["status"], running["recount"]["examined"]) == ("running", 0)
    while await step(service):
        assert await service.findings() == []
    done = await change(web, "3")
    assert (done["status"], done["percentage"]) == ("finished", 100)
    unpaid = await service.rows(
        "SELECT id FROM orders WHERE counts AND payment_status IS DISTINCT FROM 'paid'"
        " AND payment_status NOT IN ('partially_refunded', 'refunded')"
    )
    assert unpaid == []


async def test_an_order_whose_id_an_erasure_replaces_is_not_missed(
    service: Service, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recount, "PAGE", 2)
    await service.ingest(
        entry("~1", email="b@x.org", payment_status="pending"),
        entry("~2", email="b@x.org", payment_status="pending"),
        entry("~a@x.org", email="a@x.org", payment_status="pending"),
    )
    await put(web, countFrom="paid")
    await step(service)
    (someone,) = await service.rows("SELECT id FROM customers WHERE email_key = 'a@x.org'")
    assert (await web.delete(f"/api/v1/customers/CUST-{someone['id']}")).status_code == 200
    (order,) = await service.rows("SELECT id, counts FROM orders WHERE erased")
    assert order["counts"]
    assert order["id"] < "~2", "the recount has passed it"
    assert await service.findings() == []
    while await step(service):
        assert await service.findings() == []
    assert set((await judged(service)).values()) == {False}


async def test_orders_count_again_while_segments_are_off(
    service: Service, web: httpx.AsyncClient
) -> None:
    await put(web, autoSegmentation=False)
    await service.ingest(
        *(entry(f"ORD-{n}", email="a@x.org", payment_status="pending") for n in range(3))
    )
    await put(web, countFrom="paid")
    assert (await change(web, "3"))["status"] == "running"
    await apply_all(service)
    assert await figures(web) == (0, 0, "new")
    done = await change(web, "3")
    assert (done["status"], done["recount"]) == (
        "finished",
        {"total": 3, "examined": 3, "changed": 3},
    )


async def test_an_order_that_the_recount_will_reach_says_that_it_will_count(
    service: Service, web: httpx.AsyncClient
) -> None:
    await put(web, countFrom="paid")
    await apply_all(service)
    await service.ingest(entry("ORD-1", email="a@x.org", payment_status="pending"))
    await put(web, countFrom="placed")
    order = await order_of(web, "ORD-1")
    assert (order["counts"], order["notCountedBecause"]) == (False, None)
    page = (await web.get("/customers/CUST-1001")).text
    assert "Does not count yet: orders are being counted again" in page
    await apply_all(service)
    assert (await order_of(web, "ORD-1"))["counts"]


async def test_the_profile_says_in_words_which_rule_leaves_an_order_out(
    service: Service, web: httpx.AsyncClient
) -> None:
    await put(web, countFrom="paid", countFreeOrders=False)
    await apply_all(service)
    await service.ingest(
        entry("ORD-1", email="a@x.org", payment_status="pending"),
        entry("ORD-2", email="a@x.org", total="0"),
        entry("ORD-3", email="a@x.org", status="cancelled"),
        entry("ORD-4", email="a@x.org", payment_status="failed"),
        entry("ORD-5", email="a@x.org", payment_status="refunded", refunded="100.00"),
    )
    page = (await web.get("/customers/CUST-1001")).text
    for words in (
        "Does not count: not paid yet. The settings count paid orders only.",
        "Does not count: free. The settings do not count free orders.",
        "Does not count: cancelled.",
        "Does not count: failed payment.",
        "Does not count: refunded in full.",
        "5 orders do not count: 1 cancelled, 1 failed payment, 1 refunded in full,",
        "1 not paid yet, 1 free. The settings count paid orders only. The settings do not count",
    ):
        assert words in page


async def test_an_order_of_an_earlier_release_is_counted_by_the_settings_in_force(
    service: Service, web: httpx.AsyncClient
) -> None:
    """The trigger judges what a worker of the release before writes."""
    await put(web, countFrom="paid")
    await apply_all(service)
    await service.ingest(entry("ORD-1", email="a@x.org", payment_status="pending"))
    await service.execute(
        "INSERT INTO orders (id, version, updated_at, event_id, status, payment_status, total,"
        " refunded, date_created) SELECT 'OLD-' || payment_status, 1, now(), 'e', 'completed',"
        " payment_status, 100, 0, now() - interval '1 day'"
        " FROM unnest('{pending,failed}'::text[]) AS payment_status"
    )
    assert await judged(service) == {"ORD-1": False, "OLD-pending": False, "OLD-failed": False}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("countFrom", "shipped", "'placed' or 'paid'"),
        ("countFrom", "", "'placed' or 'paid'"),
        ("countFreeOrders", "no", "boolean"),
        ("timeZone", "Mars/Base", "write it like Europe/Berlin"),
        ("timeZone", "europe/berlin", "write it like Europe/Berlin"),
        ("timeZone", "+01:00", "write it like Europe/Berlin"),
    ],
)
async def test_an_impossible_setting_is_refused_with_what_to_write(
    web: httpx.AsyncClient, field: str, value: str, message: str
) -> None:
    response = await web.put("/api/v1/settings", json={field: value})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["where"] == f"body.{field}"
    assert message in error["message"]


async def test_money_of_another_currency_is_left_out_but_its_order_counts(
    service: Service, web: httpx.AsyncClient
) -> None:
    await put(web, countFrom="paid")
    await apply_all(service)
    await service.ingest(
        entry("ORD-1", email="a@x.org", total="100", currency="EUR", payment_status="pending"),
        entry("ORD-2", email="a@x.org", total="100", currency="EUR", exchangeRate="1.5"),
        entry("ORD-3", email="a@x.org", total="50"),
    )
    assert await figures(web) == (2, 200, "returning")
    await put(web, countFrom="placed")
    await apply_all(service)
    assert await figures(web) == (3, 200, "vip")
