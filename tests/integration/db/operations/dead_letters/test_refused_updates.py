"""A refused update of a known order leaves the order in an older state, and everybody is told."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.core.envelope import Entry
from service.db.customers.letter_index import index_waiting
from service.db.operations import dead_letters
from service.db.operations.dead_letters import Selection
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.operations.dead_letters.conftest import old_letter, refused_earlier

URL = "/api/v1/dead-letters"


async def marked(service: Service) -> list[str | None]:
    """Return the orders of the dead letters that are marked, the newest letter first."""
    async with service.engine.connect() as connection:
        letters, _ = await dead_letters.find(connection, Selection(refused_update=True), 100)
        assert await dead_letters.count(connection, Selection(refused_update=True)) == len(letters)
    assert all(letter.refused_update for letter in letters)
    return [letter.order_id for letter in letters]


async def flags(web: httpx.AsyncClient) -> dict[str, list[str]]:
    """Return the flags of all orders of the first customer."""
    answer = await web.get("/api/v1/customers/CUST-1001/orders")
    return {order["id"]: order["flags"] for order in answer.json()["items"]}


async def known(service: Service, now: datetime, **order: Any) -> None:
    """Apply version 1 of two orders of one customer."""
    for order_id in ("ORD-1", "ORD-2"):
        await service.ingest(
            entry(order_id, email="a@x.org", created=now - timedelta(days=1), version=1, **order)
        )


def update(now: datetime, **order: Any) -> Entry:
    """Return version 2 of ORD-1, which is refused for its status."""
    order = {"status": "lost", "version": 2, "updated": now, **order}
    return entry("ORD-1", email="a@x.org", created=now - timedelta(days=1), **order)


async def test_a_refused_update_is_marked_and_its_order_flagged(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await known(service, now)
    await service.ingest(update(now), entry("ORD-9", status="lost"), Entry("1-0", {b"data": b"{"}))
    assert await marked(service) == ["ORD-1"]
    assert await flags(web) == {"ORD-1": ["update_refused"], "ORD-2": []}
    items = (await web.get(URL)).json()["items"]
    assert {item["orderId"]: item["refusedUpdate"] for item in items} == {
        "ORD-1": True,
        "ORD-9": False,
        None: False,
    }
    only = (await web.get(URL, params={"refusedUpdate": "true"})).json()
    assert [item["orderId"] for item in only["items"]] == ["ORD-1"]
    assert only["total"] == 1
    metrics = (await web.get("/metrics")).text
    assert "crm_refused_updates 1.0" in metrics


async def test_it_is_marked_as_soon_as_the_order_is_known(service: Service, now: datetime) -> None:
    await service.ingest(update(now))
    assert await marked(service) == []
    await known(service, now)
    assert await marked(service) == ["ORD-1"]


@pytest.mark.parametrize(
    ("later", "ended"),
    [
        ({"version": 3}, True),
        ({"version": 2}, True),  # the publisher has corrected what was refused
        ({"version": 1, "updated": "earlier"}, False),
        ({"version": 0}, False),
    ],
)
async def test_a_newer_state_ends_it_and_a_late_one_does_not(
    service: Service, web: httpx.AsyncClient, now: datetime, later: dict[str, Any], *, ended: bool
) -> None:
    await known(service, now)
    await service.ingest(update(now))
    if later.get("updated"):
        later = {**later, "updated": now - timedelta(hours=1)}
    await service.ingest(update(now, status="shipped", event_id="later", **later))
    assert await marked(service) == ([] if ended else ["ORD-1"])
    assert (await flags(web))["ORD-1"] == ([] if ended else ["update_refused"])


async def test_without_a_version_the_times_decide(service: Service, now: datetime) -> None:
    await known(service, now)
    await service.ingest(update(now, version="two"))
    assert await marked(service) == ["ORD-1"]
    await service.ingest(update(now, status="shipped", version=1, event_id="later"))
    assert await marked(service) == []


async def test_of_the_same_version_and_time_what_came_later_decides(
    service: Service, now: datetime
) -> None:
    """Some publishers write neither a version nor when an order was changed."""
    created = now - timedelta(days=1)
    same = {"email": "a@x.org", "created": created, "version": None}
    await service.ingest(entry("ORD-1", **same))
    await service.ingest(entry("ORD-1", status="lost", **same))
    assert await marked(service) == ["ORD-1"]
    await service.ingest(entry("ORD-1", status="shipped", event_id="zzz", **same))
    assert await marked(service) == []


@pytest.mark.parametrize("end", ["replayed", "discarded"])
async def test_it_ends_with_its_dead_letter(
    service: Service, web: httpx.AsyncClient, now: datetime, end: str
) -> None:
    await known(service, now)
    await refused_earlier(service, update(now, status="shipped", currency="EUR"))
    assert await flags(web) == {"ORD-1": ["update_refused"], "ORD-2": []}
    (letter,) = (await web.get(URL)).json()["items"]
    if end == "replayed":
        answer = await web.post(f"{URL}/{letter['id']}/replay")
        assert answer.json()["outcome"] == "applied"
    else:
        answer = await web.delete(f"{URL}/{letter['id']}", params={"why": "a test"})
        assert answer.status_code == 204
    assert await flags(web) == {"ORD-1": [], "ORD-2": []}
    assert await marked(service) == []


async def test_workers_read_it_from_the_letters_of_an_earlier_release(
    service: Service, now: datetime
) -> None:
    await known(service, now)
    await old_letter(service, update(now), "invalid_field")
    await old_letter(service, Entry("7-0", {b"data": b"no order"}))
    assert await marked(service) == []
    assert await service.in_transaction(index_waiting, service.config.max_event_bytes) == 2
    assert await service.in_transaction(index_waiting, service.config.max_event_bytes) is None
    assert await marked(service) == ["ORD-1"]
    rows = await service.rows("SELECT order_id, order_version FROM dead_letters ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("ORD-1", 2), ("", None)]


async def test_workers_read_it_from_a_letter_that_was_indexed_before(
    service: Service, now: datetime
) -> None:
    await known(service, now)
    await service.ingest(update(now))
    await service.execute(
        "UPDATE dead_letters SET order_id = NULL, order_version = NULL, order_changed_at = NULL"
    )
    assert await service.in_transaction(index_waiting, service.config.max_event_bytes) == 1
    assert await marked(service) == ["ORD-1"]


async def test_an_erasure_takes_it_from_the_letters_that_name_the_person(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await known(service, now)
    await service.ingest(update(now))
    assert (await web.delete("/api/v1/customers/CUST-1001")).status_code == 200
    (row,) = await service.rows(
        "SELECT order_id, order_version, order_changed_at FROM dead_letters"
    )
    assert tuple(row.values()) == ("", None, None)
    assert await service.in_transaction(index_waiting, service.config.max_event_bytes) is None


async def test_an_erasure_takes_the_id_of_an_order_that_is_made_of_an_email(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    created = now - timedelta(days=1)
    order = "jane@x.org-1"
    await service.ingest(entry(order, email="jane@x.org", created=created))
    broken = entry(order, customer={"id": [order]}, created=created, updated=now, version=2)
    await service.ingest(broken)
    assert await marked(service) == [order]
    assert (await web.delete("/api/v1/customers/CUST-1001")).status_code == 200
    assert await service.rows("SELECT 1 FROM dead_letters WHERE order_id <> ''") == []


async def test_they_stand_first_on_the_page_of_operations(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await known(service, now)
    await service.ingest(update(now))
    await service.ingest(*(entry(f"NEW-{n}", status="lost") for n in range(30)))
    page = (await web.get("/operations")).text
    assert "1 of them is an update of orders that are here" in page
    assert page.index("order ORD-1") < page.index("order NEW-")
    assert "31 in all" in page
    only = (await web.get("/operations", params={"updates": "1"})).text
    assert "order ORD-1" in only
    assert "order NEW-" not in only
    profile = (await web.get("/customers/CUST-1001")).text
    assert "An update was refused" in profile
