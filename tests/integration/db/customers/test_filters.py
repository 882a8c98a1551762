"""Every filter chooses the customers whom it says, in lists, cards and exports alike."""

import csv
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import pytest

from service.db.customers import narrowing
from service.db.customers.customer_filter import CRITERIA
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api
from tests.integration.db.outlook.shop import foretell

Customer = dict[str, Any]
EUR = {"currency": "EUR", "exchangeRate": "1.1"}
PLACES = ("Austin", "Brüssel", "austin", None)


async def _shop(service: Service, api: Api, now: datetime) -> list[Customer]:
    """Create 24 customers who differ in everything that is filtered. Return their JSON."""
    await service.ingest(
        *(
            entry(
                f"ORD-{number}-{order}",
                email=f"c{number:02}@example.org" if number % 5 else None,
                phone=f"+1512555{number:04}" if number % 3 or not number % 5 else None,
                total=f"{(number * 37) % 110}.50",
                created=now - timedelta(days=7 * number + order, hours=1),
                shippingAddress={"city": PLACES[number % 4], "country": ("US", "be")[number % 2]},
                **(EUR if number % 6 == 1 else {}),
            )
            for number in range(24)
            for order in range(number % 4)
        )
    )
    for number, wanted in enumerate(((True, True), (True, False), (False, True))):
        email, sms = wanted
        await api.create(
            name=f"By hand {number}",
            email=f"hand{number}@example.org",
            preferences={"emailOptIn": email, "smsOptIn": sms},
        )
    for number in range(1001, 1013):
        tags = [name for name, each in (("Press", 2), ("Whole Sale", 3)) if number % each == 0]
        if tags:
            answer = await api.http.post(
                f"/api/v1/customers/CUST-{number}/tags", json={"add": tags}
            )
            assert answer.status_code == 200, answer.text
    await service.execute("""
        INSERT INTO customer_outlook
        SELECT id, 1, (id - 1000) / 100.0, 1, id - 1000, NULL,
          CAST(CASE WHEN id % 2 = 1 THEN now() - interval '9 days' END AS date),
          CASE WHEN id % 3 > 0 THEN 222 WHEN id % 2 = 0 THEN 555 ELSE 511 END
        FROM customers""")
    items = (await api.get(limit=500))["items"]
    assert len(items) == 21
    return list(items)


def _number(customer: Customer) -> int:
    return int(customer["id"].removeprefix("CUST-"))


def _city(customer: Customer) -> str:
    return (customer["address"]["city"] or "").lower()


def _average(customer: Customer) -> Decimal | None:
    orders = customer["totalOrders"]
    return Decimal(str(customer["totalSpent"])) / orders if orders else None


def _cases(now: datetime) -> dict[str, tuple[Any, Callable[[Customer], Any]]]:
    """Return a value for each filter, and in plain Python whom it chooses."""

    def at(days: int) -> tuple[str, datetime]:
        """Return a day as a filter has it, and the moment at which it begins."""
        day = (now - timedelta(days=days)).date()
        return day.isoformat(), datetime.fromisoformat(f"{day}T00:00:00Z")

    def date(field: str, customer: Customer) -> datetime | None:
        written = customer[field]
        return written and datetime.fromisoformat(written)

    def dates(
        prefix: str, short: str, field: str
    ) -> dict[str, tuple[Any, Callable[[Customer], Any]]]:
        day, begins = at(60)
        after = begins + timedelta(days=1)
        last_days = at(59)[1]
        return {
            f"{prefix}From": (day, lambda c: (it := date(field, c)) and it >= begins),
            f"{prefix}To": (day, lambda c: (it := date(field, c)) and it < after),
            f"{short}Within": (60, lambda c: (it := date(field, c)) and it >= last_days),
            f"{short}Before": (60, lambda c: (it := date(field, c)) and it < last_days),
        }

    def lapses(customer: Customer) -> bool:
        """Return whether the rules of a new shop move them down within 30 days."""
        last = date("lastOrderDate", customer)
        days = 90 if customer["segment"] == "at_risk" else 60
        silent = last is not None and last <= now + timedelta(days=30 - days)
        return silent and customer["segment"] != "inactive"

    return {
        **dates("date", "created", "dateCreated"),
        **dates("firstOrder", "firstOrder", "firstOrderDate"),
        **dates("lastOrder", "lastOrder", "lastOrderDate"),
        "lapsesWithin": (
            30,
            lapses,
        ),
        "ordersFrom": (2, lambda c: c["totalOrders"] >= 2),
        "ordersTo": (1, lambda c: c["totalOrders"] <= 1),
        "spentFrom": ("100.50", lambda c: c["totalSpent"] >= 100.5),
        "spentTo": ("100.50", lambda c: c["totalSpent"] <= 100.5),
        "averageFrom": ("61.50", lambda c: (it := _average(c)) is not None and it >= 61.5),
        "averageTo": ("61.50", lambda c: (it := _average(c)) is not None and it <= 61.5),
        "emailOptIn": ("yes", lambda c: c["preferences"]["emailOptIn"]),
        "smsOptIn": ("no", lambda c: not c["preferences"]["smsOptIn"]),
        "hasEmail": ("no", lambda c: c["email"] is None),
        "hasPhone": ("yes", lambda c: c["phone"] is not None),
        "city": ("AUSTIN,nowhere", lambda c: _city(c) == "austin"),
        "country": (["BE", "de"], lambda c: (c["address"]["country"] or "").lower() == "be"),
        "chanceFrom": ("0.12", lambda c: _number(c) >= 1012),
        "chanceTo": ("0.12", lambda c: _number(c) <= 1012),
        "expectedValueFrom": ("15", lambda c: 10 * _number(c) - 10_000 >= 15 * 10),
        "expectedValueTo": ("15", lambda c: 10 * _number(c) - 10_000 <= 15 * 10),
        "overdue": ("yes", lambda c: _number(c) % 2 == 1),
        "rfm": ("champions,New", lambda c: _number(c) % 3 == 0),
        "tagsAll": ("press,WHOLE  sale", lambda c: c["tags"] == ["Press", "Whole Sale"]),
        "tagsAny": (["Press", "whole sale", "unused"], lambda c: c["tags"]),
        "tagsNone": ("press,unused", lambda c: "Press" not in c["tags"]),
        "currency": ("eur", lambda c: int((c["orderIds"] or ["-0"])[0].split("-")[1]) % 6 == 1),
    }


@pytest.mark.parametrize("few", [0, 10_000])
async def test_each_filter_chooses_the_same_in_lists_cards_and_exports(
    api: Api, service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(narrowing, "_FEW", few)
    everybody = await _shop(service, api, now)
    cases = _cases(now)
    assert {*cases} == {_camel(field) for field in CRITERIA}
    cases["segment"] = ("returning,at_risk", lambda c: c["segment"] in {"returning", "at_risk"})
    for name, (value, wanted) in cases.items():
        expected = {c["id"] for c in everybody if wanted(c)}
        assert 0 < len(expected) < len(everybody), name
        page = await api.get(**{name: value, "limit": 500})
        assert {c["id"] for c in page["items"]} == expected, name
        assert page["total"] == len(expected), name
        sorted_page = await api.get(**{name: value, "limit": 500, "sort": "-totalSpent"})
        assert [c["totalSpent"] for c in sorted_page["items"]] == sorted(
            (c["totalSpent"] for c in everybody if wanted(c)), reverse=True
        ), name
        assert await _exported(api.http, name, value) == expected, name
        assert await _on_the_page(api.http, name, value) == len(expected), name


def _camel(field: str) -> str:
    head, *rest = field.split("_")
    return head + "".join(map(str.title, rest))


async def _exported(http: httpx.AsyncClient, name: str, value: Any) -> set[str]:
    answer = await http.get("/api/v1/customers/export.csv", params={name: value, "bom": False})
    assert answer.status_code == 200, answer.text
    return {row["ID"] for row in csv.DictReader(io.StringIO(answer.text))}


async def _on_the_page(http: httpx.AsyncClient, name: str, value: Any) -> int:
    """Return the figure of the card "Total Customers"; the list says the same."""
    answer = await http.get("/", params={name: value})
    assert answer.status_code == 200, answer.text
    figure = answer.text.partition('<dd class="figure">')[2].partition("<")[0]
    assert f" of {figure}</p>" in answer.text
    return int(figure)


async def test_filters_together_are_all_fulfilled(
    api: Api, service: Service, now: datetime
) -> None:
    everybody = await _shop(service, api, now)
    page = await api.get(
        ordersFrom=2, hasEmail="yes", country="be", search="c1", segment="at_risk,inactive"
    )
    expected = {
        c["id"]
        for c in everybody
        if c["totalOrders"] >= 2
        and (c["email"] or "").startswith("c1")
        and c["address"]["country"].lower() == "be"
        and c["segment"] in {"at_risk", "inactive"}
    }
    assert expected
    assert {c["id"] for c in page["items"]} == expected


async def test_who_lapses_follows_the_settings_in_force(
    api: Api, service: Service, now: datetime
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", created=now - timedelta(days=40)))
    assert (await api.get(lapsesWithin=14))["total"] == 0
    answer = await api.http.put("/api/v1/settings", json={"atRiskDays": 50})
    assert answer.status_code == 200, answer.text
    assert (await api.get(lapsesWithin=14))["total"] == 1
    assert (await api.get(lapsesWithin=9))["total"] == 0


@pytest.mark.parametrize("precedence", ["recency_first", "value_first"])
async def test_who_lapses_is_whom_their_outlook_says_and_who_is_held_by_hand_does_not(
    api: Api, service: Service, now: datetime, rng: Random, precedence: str
) -> None:
    await api.http.put("/api/v1/settings", json={"precedence": precedence})
    await service.ingest(
        *(
            entry(
                f"ORD-{number}-{order}",
                email=f"c{number}@x.org",
                total=str(rng.choice((50, 200))),
                created=now - timedelta(days=rng.uniform(0, 120)),
            )
            for number in range(60)
            for order in range(rng.choice((1, 1, 2, 3)))
        )
    )
    for number in range(1001, 1061, 3):
        until = (now + timedelta(days=rng.uniform(1, 90))).isoformat()
        hold = rng.choice(({}, {"segmentPinned": True}, {"segmentPinnedUntil": until}))
        segment = rng.choice(("new", "returning", "vip", "at_risk", "inactive"))
        await api.patch(f"CUST-{number}", segment=segment, **hold)
    await service.execute("UPDATE sweep SET swept_until = now()")
    await foretell(service, everybody=True)
    at = {}
    for number in range(1001, 1061):
        lapse = (await api.get(f"/CUST-{number}/outlook"))["lapses"]
        if lapse:
            assert lapse["segment"] in {"at_risk", "inactive"}
            at[f"CUST-{number}"] = datetime.fromisoformat(lapse["at"])
    assert 3 < len(at) < 60
    for days in (1, 14, 45, 60):
        expected = {customer for customer, when in at.items() if when <= now + timedelta(days=days)}
        page = await api.get(lapsesWithin=days, limit=500)
        assert {c["id"] for c in page["items"]} == expected, days
        sorted_page = await api.get(lapsesWithin=days, limit=500, sort="-chance")
        assert sorted_page["total"] == len(expected)
    await api.http.put("/api/v1/settings", json={"autoSegmentation": False})
    assert (await api.get(lapsesWithin=60))["total"] == 0
    assert (await api.get("/CUST-1002/outlook"))["lapses"] is None


async def test_a_wrong_filter_is_refused_by_name_and_told_beside_its_field(
    api: Api, service: Service
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", total="50"))
    for name in ("ordersFrom", "spentTo", "emailOptIn", "lastOrderFrom", "currency"):
        answer = await api.get("", 422, **{name: "wrong"})
        assert answer["errors"][0]["where"].startswith(f"query.{name}")
        page = await api.http.get("/", params={name: "<wrong>", "hasEmail": "no"})
        assert page.status_code == 422
        assert f'id="f-{name}" value="&lt;wrong&gt;" aria-invalid="true"' in page.text or (
            f'id="f-{name}" aria-invalid="true"' in page.text
        )
        assert "No customers found" in page.text, "the other filter is used"
    form = await api.http.post("/export", data={"ordersFrom": "wrong"})
    assert form.status_code == 422
    assert "Enter a whole number." in form.text, "and not a file with everybody"


async def test_a_form_without_scripts_adds_and_takes_away_filters(
    api: Api, service: Service
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org"))
    fields = {"segment": ["vip", "new"], "ordersFrom": "1", "spentTo": "", "q": ""}
    added = await api.http.post("/", data=fields)
    assert added.headers["location"] == "/?segment=vip%2Cnew&ordersFrom=1"
    page = await api.http.get(added.headers["location"])
    assert "Orders: 1 or more" in page.text
    assert 'name="without" value="ordersFrom"' in page.text
    fewer = await api.http.post("/", data={**fields, "without": "ordersFrom"})
    assert fewer.headers["location"] == "/?segment=vip%2Cnew"
    assert len(page.content) < 50_000
