"""The list of unattributed orders, page by page."""

import base64
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.http.api.customer_details import Orders
from tests.conftest import Service
from tests.events import entry

URL = "/api/v1/orders/unattributed"


async def test_orders_are_listed_until_an_event_names_a_customer(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", created=now - timedelta(days=n // 2)) for n in range(7)),
        entry("ORD-N", email="a@x.org", created=now),
    )
    listed: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while query:
        response = await web.get(URL, params=query)
        Orders.model_validate_json(response.content)
        page = response.json()
        assert page["total"] == 7
        listed += [item["id"] for item in page["items"]]
        query = {"limit": 3, "cursor": page["nextCursor"]} if page["nextCursor"] else {}
    assert listed == ["ORD-1", "ORD-0", "ORD-3", "ORD-2", "ORD-5", "ORD-4", "ORD-6"]
    await service.ingest(
        *(entry(f"ORD-{n}", email="a@x.org", created=now, version=2) for n in range(7))
    )
    assert (await web.get(URL)).json() == {"items": [], "total": 0, "nextCursor": None}


@pytest.mark.parametrize(
    "value", ["nonsense", '["x y",0,"unattributed"]', '["2026-01-01 y",0,"unattributed"]']
)
async def test_a_forged_cursor_is_refused(web: httpx.AsyncClient, value: str) -> None:
    for cursor in (value, base64.urlsafe_b64encode(value.encode()).decode()):
        response = await web.get(URL, params={"cursor": cursor})
        assert response.status_code == 422
        assert response.json()["errors"][0]["where"] == "query.cursor"
