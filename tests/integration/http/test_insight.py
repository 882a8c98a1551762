"""What is expected of customers, over HTTP and on the pages, with a shop and with too little."""

import re
from datetime import datetime, timedelta
from random import Random

import httpx
import pytest

from service.core.work_lists import WorkList
from service.db.outlook import contacts, work_lists
from service.http.api.customer_outlook import CustomerOutlook
from service.http.api.insight import Insight, RfmGroups
from service.http.api.work_lists import ListMembers, RoundJson
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.outlook.shop import fit_now, open_shop, refresh_all

INSIGHT = "/api/v1/insight"
LAPSING = "/insight/lists/lapsing"


@pytest.fixture
async def shop(service: Service, now: datetime) -> None:
    await open_shop(service, Random(4), now)
    await fit_now(service)
    await refresh_all(service)


async def test_with_too_little_data_only_what_is_lacking_is_shown(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await service.ingest(entry(email="a@x.org", created=now))
    found = (await web.get(INSIGHT)).json()
    assert (found["state"], found["lacking"]) == (
        "too_little",
        ["customers", "repeaters", "history"],
    )
    assert (found["lists"], found["forecasts"], found["model"]) == ([], [], None)
    outlook = (await web.get("/api/v1/customers/CUST-1001/outlook")).json()
    assert outlook["state"] == "too_little"
    assert outlook["lacking"] == ["customers", "repeaters", "history"]
    assert outlook["chance"] is outlook["expectedValue"] is outlook["rfm"] is None
    assert outlook["orderDays"] is outlook["averageDaysBetweenOrders"] is outlook["lapses"] is None
    page = (await web.get("/insight")).text
    assert "1 of 500 customers with an order" in page
    assert "0 of 180 days since the first order" in page
    assert "Work lists" not in page
    assert "Outlook" not in (await web.get("/customers/CUST-1001")).text
    assert (await web.get(f"{INSIGHT}/rfm")).json()["items"] == []


@pytest.mark.usefixtures("shop")
async def test_figures_are_shown_unless_they_are_poor(
    service: Service, web: httpx.AsyncClient
) -> None:
    await _each_customer_has_an_outlook(service, web)
    await _the_model_its_test_and_the_sums_are_shown(web)
    await _poor_figures_show_no_money(service, web)


async def _each_customer_has_an_outlook(service: Service, web: httpx.AsyncClient) -> None:
    (row,) = await service.rows(
        "SELECT * FROM customer_outlook WHERE order_days > 2 ORDER BY value DESC LIMIT 1"
    )
    response = await web.get(f"/api/v1/customers/CUST-{row['customer_id']}/outlook")
    CustomerOutlook.model_validate_json(response.content)
    found = response.json()
    assert found["state"] == "fitted"
    assert found["verdict"] in {"good", "fair"}
    assert found["chance"] == pytest.approx(row["chance"], abs=0.0001)
    assert found["expectedValue"] == pytest.approx(row["value"], abs=0.01)
    assert found["expectedOrderValue"] == pytest.approx(row["value"] / row["orders"], abs=0.01)
    assert found["expectedNextOrder"] == row["expected_on"].isoformat()
    customer = (await web.get(f"/api/v1/customers/CUST-{row['customer_id']}")).json()
    first, last = (
        datetime.fromisoformat(customer[it]) for it in ("firstOrderDate", "lastOrderDate")
    )
    assert found["orderDays"] == row["order_days"]
    gap = (last - first) / timedelta(days=row["order_days"] - 1)
    assert found["averageDaysBetweenOrders"] == pytest.approx(gap, abs=0.05)
    assert 100 * found["rfm"]["recency"] + 10 * found["rfm"]["frequency"] <= row["rfm"]
    data = (await web.get(f"/api/v1/customers/CUST-{row['customer_id']}/data")).json()
    assert data["outlook"] == found
    page = (await web.get(f"/customers/CUST-{row['customer_id']}")).text
    assert f"About {round(100 * row['chance'])} of 100 customers like this order" in page
    assert (await web.get("/api/v1/customers/CUST-999999/outlook")).status_code == 404


async def _the_model_its_test_and_the_sums_are_shown(web: httpx.AsyncClient) -> None:
    response = await web.get(INSIGHT)
    Insight.model_validate_json(response.content)
    found = response.json()
    assert found["state"] == "fitted"
    assert [each["days"] for each in found["forecasts"]] == [30, 90, 365]
    assert [each["workList"] for each in found["lists"]] == [each.value for each in WorkList]
    groups = await web.get(f"{INSIGHT}/rfm")
    RfmGroups.model_validate_json(groups.content)
    assert sum(each["customers"] for each in groups.json()["items"]) == 700
    page = await web.get("/insight")
    assert page.status_code == 200
    assert len(page.content) < 50_000
    assert "style=" not in page.text
    assert "orders were expected, and" in page.text
    for each in groups.json()["items"]:
        listed = await web.get("/api/v1/customers", params={"rfm": each["group"]})
        assert listed.json()["total"] == each["customers"]
        links = page.text.count(f'href="/?rfm={each["group"]}"')
        assert links == (1 if each["group"] == "prospects" else 2)
    assert "Forecast" in (await web.get("/retention")).text


async def _poor_figures_show_no_money(service: Service, web: httpx.AsyncClient) -> None:
    await service.execute(
        "UPDATE insight_models SET holdout = jsonb_set(holdout, '{orders,came}', '1')"
    )
    found = (await web.get(INSIGHT)).json()
    assert found["verdict"] == "poor"
    assert {each["revenue"] for each in found["forecasts"]} == {None}
    assert {each["expectedValue"] for each in found["lists"]} == {None}
    page = (await web.get("/insight")).text
    assert "Do not rely on these figures." in page
    assert "$" not in page.split("RFM groups")[0]
    await fit_now(service)


@pytest.mark.usefixtures("shop")
async def test_lists_say_whom_to_write_to_and_whether_it_worked(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await _the_lists_add_up(service, web)
    await _the_rules_decide_who_lapses(service, web, now)
    await _the_rules_are_said_where_they_come_before_the_next_order(service, web)
    await _a_list_is_marked_as_contacted_and_counted_later(service, web, now)


async def _the_lists_add_up(service: Service, web: httpx.AsyncClient) -> None:
    await service.execute("UPDATE customers SET email_opt_in = true WHERE id % 2 = 0")
    sums = {each["workList"]: each for each in (await web.get(INSIGHT)).json()["lists"]}
    for name in WorkList:
        response = await web.get(f"{INSIGHT}/lists/{name}")
        ListMembers.model_validate_json(response.content)
        found = response.json()
        assert found["total"] == len(found["items"]) == sums[name]["customers"]
        values = [each["expectedValue"] for each in found["items"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(sums[name]["expectedValue"], abs=1)
        assert (await web.get(f"/insight/lists/{name}")).status_code == 200
    assert min(each["customers"] for each in sums.values()) > 0
    quiet = (await web.get(f"{INSIGHT}/lists/quiet_vips")).json()["items"]
    assert {each["segment"] for each in quiet} == {"vip"}
    assert max(each["chance"] for each in quiet) < 0.35
    assert {each["emailOptIn"] for each in quiet} == {True, False}
    overdue = (await web.get(f"{INSIGHT}/lists/overdue")).json()["items"]
    await _pages_of_a_list_follow_each_other(service, [each["id"] for each in overdue])


async def _pages_of_a_list_follow_each_other(service: Service, everybody: list[str]) -> None:
    async with service.engine.connect() as connection:
        overview = await work_lists.overview(connection)
        pages = [
            await work_lists.members(
                connection, WorkList.OVERDUE, overview.as_of, overview.top, 20, skip
            )
            for skip in range(0, len(everybody) + 40, 20)
        ]
    assert [f"CUST-{row.id}" for page in pages for row in page.rows] == everybody
    assert pages[-1].rows == []
    assert {page.total for page in pages} == {len(everybody)}


async def _the_rules_decide_who_lapses(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    listed = (await web.get(f"{INSIGHT}/lists/lapsing")).json()["items"]
    expected = await service.rows(
        "SELECT 'CUST-' || id AS id FROM customers WHERE NOT segment_manual AND ("
        "  segment IN ('new', 'returning', 'vip') AND last_order_date <= :risk"
        "  OR segment = 'at_risk' AND last_order_date <= :inactive)",
        risk=now - timedelta(days=60 - 14),
        inactive=now - timedelta(days=90 - 14),
    )
    # Who ordered once and is new lapses as well; nobody without an outlook is listed.
    assert {each["id"] for each in listed} == {row["id"] for row in expected}


async def _the_rules_are_said_where_they_come_before_the_next_order(
    service: Service, web: httpx.AsyncClient
) -> None:
    (listed,) = (await web.get(f"{INSIGHT}/lists/lapsing")).json()["items"][:1]
    outlook = (await web.get(f"/api/v1/customers/{listed['id']}/outlook")).json()
    labels = {"at_risk": "At Risk", "inactive": "Inactive"}
    said = f"By your rules they become {labels[outlook['lapses']['segment']]} on "
    assert said in (await web.get(f"/customers/{listed['id']}")).text
    link = re.search(r'href="(/\?[^"]*)">Show with filters', (await web.get(LAPSING)).text)
    assert link is not None
    found = (await web.get("/api/v1/customers", params={"lapsesWithin": 14, "limit": 500})).json()
    assert link[1] == "/?lapsesWithin=14"
    assert listed["id"] in {customer["id"] for customer in found["items"]}
    (latest,) = await service.rows(
        "SELECT id FROM customers WHERE segment = 'vip' ORDER BY last_order_date DESC LIMIT 1"
    )
    outlook = (await web.get(f"/api/v1/customers/CUST-{latest['id']}/outlook")).json()
    page = (await web.get(f"/customers/CUST-{latest['id']}")).text.partition("<h2>Why")[0]
    early = outlook["lapses"]["at"][:10] < outlook["expectedNextOrder"]
    assert ("By your rules they become" in page) is early


async def _a_list_is_marked_as_contacted_and_counted_later(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    before = (await web.get(f"{INSIGHT}/lists/overdue")).json()
    response = await web.post(f"{INSIGHT}/lists/overdue/contacted", json={"leaveOut": True})
    assert response.status_code == 201
    RoundJson.model_validate_json(response.content)
    marked = response.json()
    assert marked["leftOut"] == before["total"] // 5
    assert marked["contacted"] + marked["leftOut"] == before["total"]
    assert (await web.get(f"{INSIGHT}/lists/overdue")).json()["total"] == 0
    again = await web.post(f"{INSIGHT}/lists/overdue/contacted", json={})
    assert again.status_code == 409
    export = await web.get(f"/insight/rounds/{marked['id']}/export")
    assert len(export.text.strip().splitlines()) == 1 + marked["contacted"]
    assert (await web.get("/insight/rounds/999/export")).status_code == 404
    (audit,) = await service.rows("SELECT details FROM audit WHERE action = 'list.contacted'")
    assert audit["details"] == {
        "list": "overdue",
        "contacted": marked["contacted"],
        "leftOut": marked["leftOut"],
    }
    people = await service.rows("SELECT customer_id, contacted FROM contacts ORDER BY customer_id")
    buyers = [next(p for p in people if p["contacted"] is it) for it in (True, False)]
    await service.execute("UPDATE contact_rounds SET marked_at = marked_at - interval '31 days'")
    emails = {
        row["id"]: row["email"] for row in await service.rows("SELECT id, email FROM customers")
    }
    await service.ingest(
        *(
            entry(f"ORD-AFTER-{n}", email=emails[buyer["customer_id"]], created=now - timedelta(20))
            for n, buyer in enumerate(buyers)
        )
    )
    async with service.engine.begin() as connection:
        assert await contacts.settle(connection) == 1
        assert await contacts.settle(connection) is None
    (found,) = (await web.get(INSIGHT)).json()["rounds"]
    (result,) = found["results"]
    assert (result["days"], result["contacted"]["ordered"], result["leftOut"]["ordered"]) == (
        30,
        1,
        1,
    )
    assert result["chanceRange"] > 0
    page = (await web.get("/insight")).text
    assert "Within 30 days, 1 of" in page
    assert "so this shows nothing" in page or "greater than chance explains" in page


async def test_a_fit_is_asked_for_once(service: Service, web: httpx.AsyncClient) -> None:
    assert (await web.post(f"{INSIGHT}/fit")).status_code == 202
    assert (await web.post(f"{INSIGHT}/fit")).status_code == 409
    assert (await web.get(INSIGHT)).json()["fitWantedAt"]
    await service.execute("UPDATE insight_refresh SET fit_wanted_at = NULL")
