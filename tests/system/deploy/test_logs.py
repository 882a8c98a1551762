"""Personal data goes through worker and web, and appears in no line of a log."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.events import fields
from tests.processes import HOST, Process, Processes
from tests.wait import until

NAME, EMAIL, PHONE, STREET, NOTE = (
    "Marker Mustermann",
    "marker.secret@example.org",
    "555-marker",
    "1 Marker Lane",
    "owes us a marker",
)
_BROKEN: list[dict[bytes, bytes]] = [
    fields("ORD-2", email="marker.secret example.org"),
    fields("ORD-3", email=EMAIL, status=NAME),
    fields("ORD-4", email=EMAIL, total=NAME),
    fields("ORD-5", email=EMAIL, created=datetime(1970, 1, 1, tzinfo=UTC)),
    fields(EMAIL, email=EMAIL, total="-1", event_id=NAME),
    fields(f"{NAME}\x00", email=EMAIL, name=NAME),
    {b"data": f'{{"name": "{NAME}"'.encode()},
    {b"data": b'{"marker.secret@example.org": \xff}'},
    {NAME.encode(): EMAIL.encode()},
]
_ADDRESS = {"street": STREET, "city": "Marker City"}


@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_log_line_names_a_person(service: Service, crm: Processes, form: str) -> None:
    worker = await crm.worker(log_level="DEBUG", log_format=form)
    web = await crm.web(log_level="DEBUG", log_format=form)
    sound = fields("ORD-1", event_id="evt-1", email=EMAIL, name=NAME, shippingAddress=_ADDRESS)
    for entry in (sound, *_BROKEN):
        await service.publish(entry)

    async def all_handled() -> bool:
        return "published as" in worker.output and worker.output.count("dead letter") >= 9

    await until(all_handled)
    await _use(web)
    assert await worker.terminate() == 0, worker.output
    await web.terminate()
    written = worker.output + web.output
    for word in ("marker", "mustermann", "example.org"):
        assert word not in written.lower(), [
            it for it in written.splitlines() if word in it.lower()
        ]
    if form == "json":
        _hold_the_ids(worker, web)
    else:
        assert "entry" in written
        assert "GET /api/v1/customers/{id} 200" in written


async def _use(web: Process) -> None:
    """Send requests as staff do, right ones and wrong ones."""
    base = f"http://{HOST}:{web.port}"
    person = {"name": NAME, "email": f"2{EMAIL}", "phone": PHONE, "notes": NOTE}
    async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False) as http:
        found = (await http.get("/api/v1/customers", params={"search": EMAIL})).json()["items"]
        one = f"/api/v1/customers/{found[0]['id']}"
        tried = [
            await http.get(one),
            await http.post("/api/v1/customers", json=person),
            await http.post("/api/v1/customers", json=person),
            await http.post("/api/v1/customers", json=person | {"email": NAME}),
            await http.post("/api/v1/customers", content=f"{{{NAME}"),
            await http.patch(one, json={"notes": NOTE}, headers={"If-Match": NAME}),
            await http.patch(one, json={"notes": NOTE}),
            await http.get(f"/api/v1/customers/{EMAIL}"),
            await http.get(f"/{EMAIL}", headers={"X-Request-ID": EMAIL, "traceparent": EMAIL}),
            await http.get("/api/v1/customers/export.csv", params={"search": NAME}),
            await http.get("/api/v1/dead-letters"),
            await http.delete(one),
        ]
    assert [answer.status_code for answer in tried] == [
        *(200, 201, 409, 422, 422, 412, 200, 404, 404, 200, 200, 200)
    ]


def _hold_the_ids(worker: Process, web: Process) -> None:
    lines = [json.loads(line) for line in (worker.output + web.output).splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)

    def find(**wanted: Any) -> list[dict[str, Any]]:
        return [line for line in lines if wanted.items() <= line.items()]

    assert find(eventId="evt-1", orderId="ORD-1", level="DEBUG")
    assert find(orderId="ORD-4", reason="invalid_amount", level="WARNING")
    assert find(orderId="(not shown)", eventId="(not shown)", reason="invalid_amount")
    (change, *_) = find(logger="consumers.event_log", sequence=1)
    assert find(customerId=change["customerId"], route="/api/v1/customers/{id}", status=200)
