"""The list of the latest events, and the live stream."""

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.db.engine import in_transaction
from service.db.segments.reclassify import advance
from service.db.segments.rule_settings import save
from service.http import activity_feed
from service.http.api.activity import Activity
from service.http.budgets import STREAMS
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.activity.conftest import URL, Streaming, serving
from tests.processes import HOST, processes


async def _apply(service: Service) -> None:
    while await in_transaction(service.engine, advance):
        pass


async def test_activity_lists_the_latest_events_of_each_kind_newest_first(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    for hours in (3, 1, 2):
        await service.ingest(
            entry(
                f"ORD-{hours}",
                email="ann@x.org",
                name="Ann",
                created=now - timedelta(hours=hours),
                total="5",
            )
        )
    await web.put("/api/v1/settings", json={"inactiveDays": 91})
    await _apply(service)
    response = await web.get(URL)
    Activity.model_validate_json(response.content)
    items = response.json()["items"]
    assert [item["at"] for item in items] == sorted((item["at"] for item in items), reverse=True)
    assert len({item["id"] for item in items}) == len(items) == 3 + 3 + 1
    assert items[0]["type"] == "edit"
    assert (items[0]["action"], items[0]["actor"]) == ("settings.updated", "local")
    assert items[0]["fields"] == ["inactive_days"]
    orders = [item for item in items if item["type"] == "order"]
    assert [item["orderId"] for item in orders] == ["ORD-1", "ORD-2", "ORD-3"]
    assert orders[0]["customerId"] == "CUST-1001"
    assert orders[0]["customerName"] == "Ann"
    assert '"totalAmount":5.00' in response.text
    changes = [item for item in items if item["type"] == "segment"]
    assert [(item["previousSegment"], item["segment"]) for item in changes] == [
        ("returning", "vip"),
        ("new", "returning"),
        (None, "new"),
    ]
    few = (await web.get(URL, params={"limit": 2})).json()
    assert few["items"] == items[:2]
    assert "x.org" not in response.text


async def test_changes_of_one_moment_are_listed_by_number_not_as_text(
    service: Service, web: httpx.AsyncClient
) -> None:
    """All changes of a batch have the same time. Sorted as text, 9 would come after 10."""
    await service.ingest(*(entry(f"ORD-{n}", email=f"c{n}@x.org") for n in range(12)))
    items = (await web.get(URL)).json()["items"]
    changes = [item["id"] for item in items if item["type"] == "segment"]
    assert [int(id_.rpartition("-")[2]) for id_ in changes] == list(range(12, 0, -1))


async def test_activity_shows_no_e_mail_even_when_one_was_edited(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", email="old@x.org", name="Ann"))
    patch = {"email": "new@x.org", "notes": "secret"}
    assert (await web.patch("/api/v1/customers/CUST-1001", json=patch)).status_code == 200
    response = await web.get(URL)
    (edit,) = [item for item in response.json()["items"] if item["type"] == "edit"]
    assert edit["fields"] == ["email", "notes"]
    for personal in ("x.org", "secret"):
        assert personal not in response.text


async def test_the_stream_sends_what_happens_and_nothing_else(
    service: Service, streaming: Streaming, now: datetime
) -> None:
    await service.ingest(entry("ORD-0", email="a@x.org", created=now))
    async with streaming.stream() as stream:
        await service.ingest(entry("ORD-1\n\nid: 1", email="a@x.org", created=now, total="3"))
        items = await stream.items(2)
        assert {item["type"] for item in items} == {"order", "segment"}
        (order,) = [item for item in items if item["type"] == "order"]
        assert order["orderId"] == "ORD-1\n\nid: 1"
        await service.ingest(
            entry("ORD-0", email="a@x.org", created=now, version=2, status="cancelled")
        )
        items = await stream.items(2)
        changed = next(item for item in items if item["type"] == "order")
        assert (changed["orderId"], changed["status"]) == ("ORD-0", "cancelled")
    listed = (await streaming.http.get(URL)).json()["items"]
    assert {item["id"] for item in items} <= {item["id"] for item in listed}


async def test_all_listeners_share_one_poller_that_ends_with_the_last_of_them(
    service: Service, streaming: Streaming
) -> None:
    async with streaming.stream() as one, streaming.stream() as two, streaming.stream() as three:
        lookers = [task for task in asyncio.all_tasks() if task.get_name() == "activity"]
        assert len(lookers) == 1
        await service.ingest(entry("ORD-1"))
        ids = {(await stream.item())["id"] for stream in (one, two, three)}
        assert len(ids) == 1
        assert streaming.feed.listeners == 3
    await streaming.nobody_listens()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "activity"]


async def test_a_listener_that_reconnects_gets_the_missed_events(
    service: Service, streaming: Streaming, now: datetime
) -> None:
    async with streaming.stream() as stream:
        await service.ingest(entry("ORD-1", created=now))
        last = await stream.item()
    await streaming.nobody_listens()
    await service.ingest(entry("ORD-2", created=now), entry("ORD-3", created=now))
    last_id = last["id"].encode()
    async with streaming.stream(last_id) as stream:
        assert {item["orderId"] for item in await stream.items(2)} == {"ORD-2", "ORD-3"}
    async with serving(service) as other, other.stream(last_id) as stream:
        items = await stream.items(3)  # another process sends some events again
        assert {item["orderId"] for item in items} == {"ORD-1", "ORD-2", "ORD-3"}


@pytest.mark.parametrize("last_id", ["", "x", "9" * 50, "-", "²-order-1"])
async def test_an_unknown_last_id_starts_the_stream_now(
    service: Service, streaming: Streaming, last_id: str
) -> None:
    await service.ingest(entry("ORD-1"))
    async with streaming.stream(last_id.encode("latin-1")) as stream:
        await service.ingest(entry("ORD-2"))
        assert (await stream.item())["orderId"] == "ORD-2"


async def test_a_quiet_stream_sends_heartbeats(
    streaming: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_feed, "HEARTBEAT_SECONDS", 0.05)
    async with streaming.stream() as stream:
        assert await stream.frame() == {"": "alive"}
        assert await stream.frame() == {"": "alive"}


async def test_the_number_of_live_streams_is_limited(streaming: Streaming) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(STREAMS.each):
            await stack.enter_async_context(streaming.stream())
        refused = await streaming.http.get(f"{URL}/stream")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == str(STREAMS.wait)
        assert "live streams already" in refused.json()["detail"]
    await streaming.nobody_listens()
    async with streaming.stream():
        pass


async def test_a_listener_that_does_not_read_does_not_slow_others(
    service: Service, streaming: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_feed, "_POLL_SECONDS", 0.01)
    async with streaming.stream(), streaming.stream() as stream:
        for number in range(5):
            await service.ingest(*(entry(f"ORD-{number}-{n}") for n in range(50)))
            await stream.items(50)
        assert len(streaming.feed._ring) <= 1000


async def test_the_stream_continues_after_the_database_was_away(
    service: Service, streaming: Streaming
) -> None:
    async with streaming.stream() as stream:
        await service.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'crm web'"
        )
        await service.ingest(entry("ORD-1"))
        assert (await stream.item())["orderId"] == "ORD-1"


async def test_a_burst_is_cut_to_its_latest_events(service: Service, streaming: Streaming) -> None:
    async with streaming.stream() as stream:
        async with service.engine.begin() as connection:
            await save(connection, "somebody", {"at_risk_days": 59}, None)
        item = await stream.item()
        assert (item["type"], item["actor"]) == ("edit", "somebody")
        await service.ingest(*(entry(f"ORD-{n:03}") for n in range(150)))
        assert len({item["id"] for item in await stream.items(100)}) == 100
    await _apply(service)


async def test_a_web_process_stops_although_somebody_listens(
    service: Service, tmp_path: Path
) -> None:
    async with processes(service.servers, tmp_path) as crm:
        web = await crm.web()
        url = f"http://{HOST}:{web.port}{URL}/stream"
        async with (
            httpx.AsyncClient(timeout=20, trust_env=False) as http,
            http.stream("GET", url) as response,
        ):
            lines = response.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            web.send(signal.SIGTERM)
            async for _ in lines:
                pass
        assert await web.ended() in {0, -signal.SIGTERM}
        assert "graceful shutdown exceeded" not in web.output
