"""Lists of customers: filters, search, sort orders, and pages that are stable under writes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from service.core.segment_rules import Segment
from service.db.customers import filters, sorting
from service.db.customers.customer_list import Page, find, ids_statement, sorted_query
from service.db.customers.filters import Filter
from service.db.customers.sorting import (
    KEYS,
    Sort,
    SortedQuery,
    branches_sql,
    choose_branches,
    without_seqscan,
)
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api
from tests.integration.db.outlook.shop import foretell


async def _shop(service: Service, now: datetime) -> None:
    """Create 40 customers with 1 to 4 orders each."""
    await service.ingest(
        *(
            entry(
                f"ORD-{number}-{order}",
                email=f"c{number:02}@example.org",
                name=f"Name {number % 7}" if number % 5 else None,
                phone=f"555-01{number:02}",
                total=f"{(number * 37) % 11}.50",
                created=now - timedelta(days=3 * number + order),
            )
            for number in range(40)
            for order in range(number % 4 + 1)
        )
    )


async def _all(api: Api, **query: Any) -> list[dict[str, Any]]:
    """Return the items of all pages."""
    items: list[dict[str, Any]] = []
    page = await api.get(**query)
    while True:
        items += page["items"]
        assert page["total"] >= len(items)
        if page["nextCursor"] is None:
            return items
        page = await api.get(**query, cursor=page["nextCursor"])


@pytest.mark.parametrize("sort", [sort for sort in Sort if not KEYS[sort].listed])
@pytest.mark.parametrize("direction", ["", "-"])
async def test_pages_list_every_customer_once_in_every_sort_order(
    api: Api, service: Service, now: datetime, sort: Sort, direction: str
) -> None:
    await _shop(service, now)
    items = await _all(api, sort=f"{direction}{sort}", limit=7)
    assert len({item["id"] for item in items}) == len(items) == 40
    values = [(item[sort.value] or "") for item in items]
    if sort is Sort.NAME:
        values = [value.lower() for value in values]
    assert values == sorted(values, reverse=direction == "-")


@pytest.mark.parametrize("sort", [Sort.CHANCE, Sort.EXPECTED_VALUE])
async def test_pages_by_what_is_expected_list_only_customers_with_an_outlook(
    api: Api, service: Service, now: datetime, sort: Sort
) -> None:
    await _shop(service, now)
    assert (await api.get(sort=sort))["total"] == 0
    await foretell(service)
    known = [it["id"] for it in await _all(api, limit=500) if it["outlook"]]
    assert len(known) == 20
    for direction in ("", "-"):
        items = await _all(api, sort=f"{direction}{sort}", limit=3)
        assert sorted(it["id"] for it in items) == sorted(known)
        places = [(it["outlook"][sort.value], int(it["id"][5:])) for it in items]
        assert places == sorted(places, reverse=direction == "-")
        assert len({value for value, _ in places}) < 10  # many share a value
    everybody = await _all(api, sort=sort, limit=500)
    queries: list[dict[str, Any]] = [
        {"segment": "vip"},
        {"spentFrom": "5"},
        {"search": "C1"},
        {"chanceFrom": "0.5"},
        {"segment": "inactive", "search": "example.org", "spentTo": "30"},
    ]
    for query in queries:
        matching = {it["id"] for it in await _all(api, limit=500, **query)}
        expected = [it["id"] for it in everybody if it["id"] in matching]
        assert 0 < len(expected) < 20, query
        page = await api.get(sort=sort, **query)
        assert [it["id"] for it in page["items"]] == expected, query
        assert page["total"] == len(expected), query
    # The row of somebody whose orders are cancelled stays until the next refresh.
    gone = next(it for it in everybody if it["totalOrders"] == 2)
    await service.ingest(
        *(
            entry(order, email=gone["email"], version=2, status="cancelled")
            for order in gone["orderIds"]
        )
    )
    items = await _all(api, sort=sort, limit=3)
    assert [it["id"] for it in items if it["outlook"] is None] == [gone["id"]]
    assert len(items) == (await api.get(sort=sort))["total"] == 20


@pytest.mark.parametrize("first", [2, 8, 20_000])
async def test_a_filter_keeps_the_order_however_many_customers_are_looked_at_first(
    api: Api, service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    await _shop(service, now)
    await foretell(service)
    monkeypatch.setattr(sorting, "_FIRST", first)
    for sort in ("chance", "-expectedValue"):
        everybody = await _all(api, sort=sort, limit=500)
        for segment in {it["segment"] for it in everybody}:
            expected = [it["id"] for it in everybody if it["segment"] == segment]
            for limit in (1, 3):
                found = await _all(api, sort=sort, limit=limit, segment=segment)
                assert [it["id"] for it in found] == expected


async def test_customers_are_looked_at_from_where_the_page_before_ended(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _shop(service, now)
    await foretell(service)
    everybody = Filter(segments=tuple(Segment))
    monkeypatch.setattr(sorting, "_FIRST", 4)
    async with service.engine.connect() as connection:
        page = await find(connection, everybody, Page(Sort.CHANCE, limit=10))
        query = sorted_query(everybody, Page(Sort.CHANCE, limit=3, after=page.last), None)
        branches = await choose_branches(connection, query)
        rows = await connection.execute(ids_statement(query, branches), query.parameters)
        assert len(rows.all()) == 4


async def test_a_cursor_continues_after_its_page_while_customers_are_added(
    api: Api, service: Service, now: datetime
) -> None:
    await _shop(service, now)
    first = await api.get(sort="email", limit=10)
    await service.ingest(entry("ORD-new", email="a-first@example.org"))
    await service.ingest(entry("ORD-new-2", email="c10b@example.org"))
    second = await api.get(sort="email", limit=10, cursor=first["nextCursor"])
    assert [item["email"] for item in second["items"]][:3] == [
        "c10@example.org",
        "c10b@example.org",
        "c11@example.org",
    ]


async def test_a_filter_and_its_total_agree_with_the_rows(
    api: Api, service: Service, now: datetime
) -> None:
    await _shop(service, now)
    everybody = await _all(api, limit=500)
    since = now - timedelta(days=30)
    for query, wanted in (
        ({"segment": "vip"}, lambda c: c["segment"] == "vip"),
        ({"segment": ["new", "inactive"]}, lambda c: c["segment"] in {"new", "inactive"}),
        ({"dateFrom": since.isoformat()}, lambda c: c["dateCreated"] >= since.isoformat()[:26]),
        ({"lastOrderTo": since.isoformat()}, lambda c: c["lastOrderDate"] < since.isoformat()[:26]),
        ({"spentFrom": "10", "spentTo": "20"}, lambda c: 10 <= c["totalSpent"] <= 20),
        ({"search": '"NAME 3"'}, lambda c: c["name"] == "Name 3"),
        ({"search": "C1"}, lambda c: c["email"].startswith("c1")),
        ({"search": "555-0123"}, lambda c: c["phone"] == "555-0123"),
    ):
        expected = {customer["id"] for customer in everybody if wanted(customer)}
        assert expected, query
        items = await _all(api, limit=3, **query)
        assert {item["id"] for item in items} == expected, query
        assert (await api.get(**query))["total"] == len(expected), query


async def test_search_is_literal_and_follows_every_edit(api: Api, service: Service) -> None:
    await api.create(name="100% Cotton_Shop", email="cotton@example.org", notes="x\\y")
    await api.create(name="100 Cotton", email="other@example.org")
    for term, hits in (("100%", 1), ("n_s", 1), ("\\y", 1), ("%", 1), ("cust-1002", 1), ("zz", 0)):
        assert (await api.get(search=term))["total"] == hits, term
    await api.patch("CUST-1002", name="Renamed", notes="Überraschung")
    assert (await api.get(search="überrasch"))["total"] == 1
    assert (await api.get(search='"100 cotton"'))["total"] == 0
    await service.ingest(entry("ORD-1", email="n@example.org", name="Ørsted"))
    assert (await api.get(search="ørs"))["items"][0]["email"] == "n@example.org"


async def test_names_are_sorted_by_one_rule_on_every_server(api: Api, service: Service) -> None:
    names = ["anna", "Ben", "Édith", "Edwin", "Øyvind", "Peter", "Straße", "Strauß", "Γιώργος"]
    for number, name in enumerate(reversed(names)):
        await api.create(name=name, email=f"n{number}@example.org")
    assert [item["name"] for item in await _all(api, sort="name", limit=2)] == names
    assert [item["name"] for item in await _all(api, sort="-name", limit=4)] == names[::-1]
    query = SortedQuery(KEYS[Sort.NAME], "ASC", "true", {"one_more": 11, "skip": 0})
    async with service.engine.connect() as connection:
        await connection.execute(text("SET LOCAL enable_sort = off"))  # so few rows are sorted
        plan = await connection.execute(text(f"EXPLAIN {branches_sql(query)}"), query.parameters)
        assert "ix_customer_search_name" in "\n".join(plan.scalars())


async def test_bad_parameters_are_refused_by_name(api: Api) -> None:
    page = await api.get(sort="email", limit=1)
    assert page == {"items": [], "total": 0, "nextCursor": None}
    for query in (
        {"cursor": "rubbish"},
        {"cursor": "W10"},
        {"limit": "0"},
        {"limit": "501"},
        {"sort": "shoeSize"},
        {"segment": "platinum"},
        {"dateFrom": "yesterday"},
        {"spentFrom": "-1"},
        {"search": "\x00"},
    ):
        answer = await api.get("", 422, **query)
        assert answer["errors"][0]["where"].startswith(f"query.{next(iter(query))}")


async def test_a_cursor_of_another_sort_order_is_refused(api: Api) -> None:
    for number in range(3):
        await api.create(name="A", email=f"a{number}@example.org")
    cursor = (await api.get(sort="email", limit=1))["nextCursor"]
    await api.get("", 422, sort="-email", cursor=cursor)


@pytest.mark.parametrize("few", [0, 1_000_000])
@pytest.mark.parametrize("sort", ["dateCreated", "email", "-totalSpent"])
async def test_a_search_finds_the_same_customers_for_few_and_for_many_hits(
    api: Api, service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch, few: int, sort: str
) -> None:
    await _shop(service, now)
    everybody = await _all(api, sort=sort, limit=500)
    monkeypatch.setattr(filters, "_FEW_HITS", few)
    searches: list[tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]] = [
        ({"search": "name"}, lambda c: c["name"]),
        ({"search": "C1"}, lambda c: c["email"].startswith("c1")),
        ({"search": "1001"}, lambda c: c["id"] == "CUST-1001"),
        ({"search": "10"}, lambda c: "10" in f"{c['email']}\n{c['phone']}"),
        ({"search": "name", "segment": "vip"}, lambda c: c["name"] and c["segment"] == "vip"),
        ({"search": "nobody"}, lambda _: False),
    ]
    for query, wanted in searches:
        expected = [customer["id"] for customer in everybody if wanted(customer)]
        items = await _all(api, sort=sort, limit=7, **query)
        assert [customer["id"] for customer in items] == expected, query
        assert (await api.get(sort=sort, **query))["total"] == len(expected), query


@pytest.mark.parametrize("sort", ["totalSpent", "totalOrders", "lastOrderDate", "segment"])
@pytest.mark.parametrize("direction", ["", "-"])
async def test_a_bound_from_a_sample_does_not_change_the_list(
    api: Api,
    service: Service,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    sort: str,
    direction: str,
) -> None:
    await _shop(service, now)
    await service.ingest(
        *(entry(f"X-{n}", email=f"x{n}@example.org", status="cancelled") for n in range(3))
    )
    monkeypatch.setattr(sorting, "_SAMPLE_SHARE", 0)
    exact = await _all(api, sort=f"{direction}{sort}", limit=9)
    assert len(exact) == 43
    for sampled, many in ((0.3, 30), (1, 30), (1, 0)):
        monkeypatch.setattr(sorting, "_SAMPLE_SHARE", sampled)
        monkeypatch.setattr(sorting, "_MANY_TIED", many)
        assert await _all(api, sort=f"{direction}{sort}", limit=9) == exact
    vip = [customer for customer in exact if customer["segment"] == "vip"]
    assert await _all(api, sort=f"{direction}{sort}", limit=2, segment="vip") == vip


async def test_a_bounded_page_uses_the_index_even_if_the_planner_expects_otherwise(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner would prefer to scan such a small table completely."""
    await _shop(service, now)
    monkeypatch.setattr(sorting, "_SAMPLE_SHARE", 1)
    page = SortedQuery(KEYS[Sort.TOTAL_SPENT], "DESC", "true", {"one_more": 11, "skip": 0})
    async with service.engine.connect() as connection:
        branches = await choose_branches(connection, page)
        query = text(f"EXPLAIN {branches_sql(page, branches)}")
        async with without_seqscan(connection):
            plan = "\n".join((await connection.execute(query, page.parameters)).scalars())
    assert "ix_customers_figures" in plan
    assert "Seq Scan" not in plan
