"""Money in other currencies: converted by the event's rate, or kept apart; never added as it is."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.core.batch import Outcome
from tests.conftest import Service
from tests.events import entry

CUSTOMERS = "/api/v1/customers"
JANE = {"email": "jane@example.com", "name": "Jane"}


async def _jane(web: httpx.AsyncClient) -> dict[str, Any]:
    answer = await web.get(CUSTOMERS)
    (jane,) = answer.json()["items"]
    assert isinstance(jane, dict)
    return jane


async def _orders(web: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await web.get(f"{CUSTOMERS}/CUST-1001/orders")
    return {order["id"]: order for order in answer.json()["items"]}


async def test_an_order_in_another_currency_counts_and_keeps_its_customer_active(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    old = now - timedelta(days=100)
    await service.ingest(entry("ORD-1", created=old, total="100.00", **JANE))
    assert (await _jane(web))["segment"] == "inactive"
    euros = entry("ORD-2", created=now, total="80.00", currency="EUR", **JANE)
    assert await service.ingest(euros) == {Outcome.APPLIED: 1}
    jane = await _jane(web)
    assert (jane["segment"], jane["totalOrders"], jane["totalSpent"]) == ("returning", 2, 100.0)
    assert datetime.fromisoformat(jane["lastOrderDate"]) == now
    assert jane["otherCurrencies"] == [{"currency": "EUR", "orders": 1, "amount": 80.0}]


async def test_the_events_exchange_rate_converts(service: Service, web: httpx.AsyncClient) -> None:
    rate = {"currency": "EUR", "exchangeRate": "1.0853"}
    await service.ingest(entry("ORD-1", total="100.00", refunded="10.00", **rate, **JANE))
    jane = await _jane(web)
    assert (jane["totalOrders"], jane["totalSpent"], jane["otherCurrencies"]) == (1, 97.68, [])
    order = (await _orders(web))["ORD-1"]
    assert (order["totalAmount"], order["currency"]) == (100.0, "EUR")
    assert (order["exchangeRate"], order["netAmount"]) == (1.0853, 97.68)


async def test_a_later_state_brings_the_rate_and_takes_it_away(
    service: Service, web: httpx.AsyncClient
) -> None:
    told = {"total": "10.00", "currency": "EUR"}
    states = [
        entry("ORD-1", version=1, **told, **JANE),
        entry("ORD-1", version=2, **told, exchangeRate=2, **JANE),
        entry("ORD-1", version=3, **told, **JANE),
        entry("ORD-1", version=4, **told | {"currency": "USD"}, **JANE),
    ]
    seen = []
    for state in states:
        await service.ingest(state)
        jane = await _jane(web)
        seen.append((jane["totalSpent"], [each["amount"] for each in jane["otherCurrencies"]]))
    assert seen == [(0.0, [10.0]), (20.0, []), (0.0, [10.0]), (10.0, [])]


async def test_statistics_tell_the_money_apart_beside_their_totals(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await service.ingest(
        entry("ORD-1", total="50.00", **JANE),
        entry("ORD-2", total="80.00", currency="EUR", refunded="5.00", **JANE),
        entry("ORD-3", total="20.00", currency="EUR", email="john@example.com"),
        entry("ORD-4", total="7.00", currency="GBP", **JANE),
        entry("ORD-5", total="9.00", currency="GBP", status="cancelled", **JANE),
        entry("ORD-6", total="11.00", currency="CHF"),  # names nobody
        entry(
            "ORD-7", total="1.00", currency="SEK", created=now - timedelta(days=40), email="o@x.org"
        ),
    )
    answer = (await web.get("/api/v1/statistics")).json()
    assert answer["totalRevenue"] == 50.0
    assert answer["otherCurrencies"] == [
        {"currency": "EUR", "orders": 2, "amount": 95.0},
        {"currency": "GBP", "orders": 1, "amount": 7.0},
        {"currency": "SEK", "orders": 1, "amount": 1.0},
    ]
    lately = (await web.get("/api/v1/statistics", params={"period": "month"})).json()
    assert [each["currency"] for each in lately["otherCurrencies"]] == ["EUR", "GBP"]


async def test_files_have_the_money_apart_in_a_column(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        entry("ORD-1", total="80.00", currency="EUR", **JANE),
        entry("ORD-2", total="5.00", currency="GBP", **JANE),
    )
    answer = await web.get(f"{CUSTOMERS}/export.csv", params={"bom": "false"})
    (line,) = csv.DictReader(io.StringIO(answer.text))
    assert (line["Total Spent"], line["Other Currencies"]) == ("0.00", "EUR 80.00; GBP 5.00")


@pytest.mark.parametrize("rate", [None, "1.5"])
async def test_two_merged_customers_have_both_moneys(
    service: Service, web: httpx.AsyncClient, rate: str | None
) -> None:
    told = {"currency": "EUR", "exchangeRate": rate}
    await service.ingest(entry("ORD-1", total="10.00", **told, email="a@x.org"))
    await service.ingest(entry("ORD-2", total="20.00", **told, email="b@x.org"))
    answer = await web.post(f"{CUSTOMERS}/CUST-1001/merge", json={"other": "CUST-1002"})
    assert answer.status_code == 200, answer.text
    jane = await _jane(web)
    apart = jane["totalSpent"], [each["amount"] for each in jane["otherCurrencies"]]
    assert apart == ((0.0, [30.0]) if rate is None else (45.0, []))


async def test_pages_show_amounts_in_their_own_currency(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", total="80.00", currency="EUR", **JANE))
    html = {"Accept": "text/html", "Accept-Language": "en-US"}
    profile = (await web.get("/customers/CUST-1001", headers=html)).text
    assert "€80.00" in profile
    assert "one order without an exchange rate" in profile
    dashboard = (await web.get("/", headers=html)).text
    assert (
        "Not in these figures, because their orders have no exchange rate: €80.00 in one order."
        in (dashboard)
    )
