"""Events that contradict each other: which ones are shown, whatever the order of arrival."""

import itertools
import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.db.customers import order_conflicts, order_history
from service.http.api.order_conflicts import Conflicts
from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.db.customers.conftest import Api
from tests.integration.db.ingest.test_model import batches, entries
from tests.integration.http.conftest import client
from tests.model import world

URL = "/api/v1/orders/conflicts"


def told(now: datetime, event_id: str, **order: Any) -> dict[str, Any]:
    """Return an event of ORD-1; all of them have the same version and times."""
    order = {"email": "a@x.org", "created": now - timedelta(days=1), "updated": now, **order}
    return cloud_event(order.pop("order_id", "ORD-1"), event_id=event_id, **order)


async def shown(service: Service) -> dict[str, list[str]]:
    """Return the events that contradict each other, by order; the first one holds."""
    async with service.engine.connect() as connection:
        page = await order_conflicts.page(connection, 100, None)
        assert page.total == len(page.items) == await order_conflicts.count(connection)
    return {found.order_id: [event.event_id for event in found.events] for found in page.items}


async def test_events_of_the_same_second_are_shown_both_whichever_came_first(
    service: Service, now: datetime
) -> None:
    pending = told(now, "S1:9", status="pending")
    cancelled = told(now, "S1:10", status="cancelled")
    for documents in itertools.permutations([pending, cancelled]):
        for document in documents:
            await service.ingest(*entries([document]))
        assert await shown(service) == {"ORD-1": ["S1:9", "S1:10"]}
        await service.empty()


async def test_the_own_time_of_an_event_leaves_no_contradiction(
    service: Service, now: datetime
) -> None:
    first = told(now, "S1:9", status="pending", event_time=now)
    second = told(now, "S1:10", status="cancelled", event_time=now + timedelta(milliseconds=1))
    await service.ingest(*entries([second, first]))
    assert await shown(service) == {}
    (row,) = await service.rows("SELECT status FROM orders")
    assert row["status"] == "cancelled"


async def test_one_event_is_shown_of_those_that_say_the_same(
    service: Service, now: datetime
) -> None:
    """Whatever batches kept, it is the state, and of each other content the greatest id."""
    documents = [
        told(now, event_id, status=status, currency=currency, exchangeRate=rate)
        for event_id, status, currency, rate in (
            ("1", "shipped", "USD", None),
            ("2", "pending", "EUR", "10"),
            ("3", "pending", "eur", 10),
            ("4", "shipped", None, None),
            ("5", "delivered", "USD", None),
            ("6", "shipped", "USD", None),
        )
    ]
    for arrival in random.Random(5).sample(list(itertools.permutations(documents)), 12):
        for document in arrival:
            await service.ingest(*entries([document]))
        assert await shown(service) == {"ORD-1": ["6", "5", "3"]}
        await service.empty()


@pytest.mark.timeout(600)  # one database for all examples
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    told_states=st.lists(
        st.tuples(
            st.sampled_from(["ORD-1", "ORD-1", "ORD-2"]),
            st.sampled_from([1, 1, 1, 2]),
            st.sampled_from([None, None, 1, 2]),
            st.sampled_from(["pending", "shipped", "completed"]),
            st.sampled_from(["0.00", "5.00", "120.00"]),
        ),
        min_size=3,
        max_size=9,
    ),
    ids=st.permutations("abcdefghi"),
    rng=st.randoms(use_true_random=False),
)
async def test_what_is_shown_does_not_depend_on_the_order_of_arrival(
    migrated: Service,
    told_states: list[tuple[Any, ...]],
    ids: list[str],
    rng: random.Random,
) -> None:
    now = datetime.fromisoformat("2026-01-05T12:00:00+00:00")
    documents = [
        told(
            now,
            event_id,
            order_id=order_id,
            version=version,
            status=status,
            refunded=refunded,
            **({} if sent is None else {"event_time": now + timedelta(milliseconds=sent)}),
        )
        for event_id, (order_id, version, sent, status, refunded) in zip(
            ids, told_states, strict=False
        )
    ]
    expected = world(documents, now).orders
    await migrated.empty()
    for batch in batches(documents, rng):
        await migrated.ingest(*entries(batch))
        if rng.random() < 0.3:
            await migrated.in_transaction(order_conflicts.forget_superseded)
    orders = await migrated.in_transaction(order_history.of_customer, 1001, 100, None)
    assert {order.id: order.flags for order in orders.items} == {
        order_id: order.flags for order_id, order in expected.items()
    }
    others = {order_id: set(ids[1:]) for order_id, ids in (await shown(migrated)).items()}
    assert others == {
        order_id: order.contradicted_by
        for order_id, order in expected.items()
        if order.contradicted_by
    }


async def test_a_later_state_ends_it_and_workers_forget_it(service: Service, now: datetime) -> None:
    await service.ingest(*entries([told(now, "a"), told(now, "b", status="cancelled")]))
    await service.ingest(*entries([told(now, "c", order_id="ORD-2")]))
    assert await service.in_transaction(order_conflicts.forget_superseded) is None
    assert await shown(service) == {"ORD-1": ["b", "a"]}
    await service.ingest(*entries([told(now, "d", version=2)]))
    assert await shown(service) == {}
    assert len(await service.rows("SELECT 1 FROM order_conflicts")) == 2
    assert await service.in_transaction(order_conflicts.forget_superseded) == 2
    assert await service.rows("SELECT 1 FROM order_conflicts") == []


async def test_they_are_listed_in_pages_and_on_the_pages_of_staff(
    service: Service, now: datetime
) -> None:
    for n in range(3):
        order = {"order_id": f"ORD-{n}", "email": "a@x.org"}
        pair = [told(now, "a", **order), told(now, "b", status="cancelled", **order)]
        await service.ingest(*entries(pair))
    async with client(service) as web:
        first = await web.get(URL, params={"limit": 2})
        page = Conflicts.model_validate_json(first.content)
        assert ([each.order_id for each in page.items], page.total) == (["ORD-2", "ORD-1"], 3)
        rest = await web.get(URL, params={"limit": 2, "cursor": first.json()["nextCursor"]})
        (last,) = rest.json()["items"]
        assert (last["orderId"], last["customerId"]) == ("ORD-0", "CUST-1001")
        assert [(each["eventId"], each["holds"]) for each in last["events"]] == [
            ("b", True),
            ("a", False),
        ]
        assert last["events"][0]["status"] == "cancelled"
        assert rest.json()["nextCursor"] is None
        assert "crm_order_conflicts 3.0" in (await web.get("/metrics")).text
        assert "3 in all. One is over when" in (await web.get("/operations")).text
        profile = (await web.get("/customers/CUST-1001")).text
        assert profile.count("Two events contradict each other.") == 3
        assert "<code>b</code> holds: cancelled, payment paid" in profile
        assert "<code>a</code>: completed, payment paid" in profile


async def test_an_erasure_leaves_no_personal_id_of_an_event(
    service: Service, api: Api, now: datetime
) -> None:
    pair = [told(now, "a@x.org:1"), told(now, "a@x.org:2", status="cancelled")]
    await service.ingest(*entries(pair))
    assert (await api.http.delete("/api/v1/customers/CUST-1001")).status_code == 200
    rows = await service.rows("SELECT event_id FROM order_conflicts")
    assert len(rows) == 2
    assert not any("@" in row["event_id"] for row in rows)
    before = await shown(service)
    await service.ingest(*entries(pair))
    assert await service.rows("SELECT event_id FROM order_conflicts") == rows
    # Pseudonyms do not sort as the ids did, so the other one may hold now.
    assert {order: set(ids) for order, ids in (await shown(service)).items()} == {
        order: set(ids) for order, ids in before.items()
    }
