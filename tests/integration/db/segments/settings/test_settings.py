"""Settings over HTTP: versions, refusals, and a preview that equals the effect of applying."""

import asyncio
import json
import random
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from service.db.ingest.ingest import ingest
from service.db.segments import reclassify
from service.http.api.rule_changes import Change, Preview
from service.http.api.rule_settings import SettingsHistory, SettingsVersion
from service.http.problems import Problem
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.segments.settings.conftest import apply_all, populate
from tests.wait import until

URL = "/api/v1/settings"
DEFAULTS = {
    "vipOrderCount": 3,
    "vipTotalSpent": 500.00,
    "atRiskDays": 60,
    "inactiveDays": 90,
    "autoSegmentation": True,
    "precedence": "recency_first",
    "countFrom": "placed",
    "countFreeOrders": True,
    "timeZone": "UTC",
}
SEGMENTS = ["new", "returning", "vip", "at_risk", "inactive"]


async def put(web: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await web.put(URL, json=body)
    assert response.status_code == 200, response.text
    SettingsVersion.model_validate_json(response.content)
    answer: dict[str, Any] = response.json()
    return answer


async def preview(web: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await web.post(f"{URL}/preview", json=body)
    assert response.status_code == 200, response.text
    Preview.model_validate_json(response.content)
    answer: dict[str, Any] = response.json()
    return answer


async def change(web: httpx.AsyncClient, change_id: str) -> dict[str, Any]:
    response = await web.get(f"{URL}/changes/{change_id}")
    assert response.status_code == 200, response.text
    Change.model_validate_json(response.content)
    answer: dict[str, Any] = response.json()
    return answer


async def test_the_first_version_comes_from_the_installation(web: httpx.AsyncClient) -> None:
    response = await web.get(URL)
    assert response.headers["etag"] == '"1"'
    body = response.json()
    assert body.pop("changedAt")
    assert body == {"version": 1, "changedBy": "installation", "change": None, **DEFAULTS}
    assert '"vipTotalSpent":500.00' in response.text
    assert (await web.get(f"{URL}/changes/1")).status_code == 404


async def test_saving_makes_a_version_with_its_author(
    service: Service, web: httpx.AsyncClient
) -> None:
    saved = await put(web, atRiskDays=45, vipTotalSpent=750.5)
    assert saved.pop("changedAt")
    assert saved == {
        **DEFAULTS,
        "version": 2,
        "changedBy": "local",
        "change": "2",
        "atRiskDays": 45,
        "vipTotalSpent": 750.50,
    }
    await put(web, precedence="value_first")
    response = await web.get(f"{URL}/history")
    SettingsHistory.model_validate_json(response.content)
    history = response.json()
    assert history["total"] == 3
    assert [item["changed"] for item in history["items"]] == [
        {"precedence": {"before": "recency_first", "after": "value_first"}},
        {
            "vipTotalSpent": {"before": 500.00, "after": 750.50},
            "atRiskDays": {"before": 60, "after": 45},
        },
        {},
    ]
    audit = await service.rows("SELECT actor, action, details FROM audit ORDER BY id")
    assert audit[0] == {
        "actor": "local",
        "action": "settings.updated",
        "details": {"vip_total_spent": [500.00, 750.50], "at_risk_days": [60, 45]},
    }
    await apply_all(service)


async def test_the_page_counts_the_versions_of_its_history(
    service: Service, web: httpx.AsyncClient
) -> None:
    """The number of customers of the last change once stood there."""
    await put(web, vipOrderCount=4)
    await apply_all(service)
    page = (await web.get("/settings", headers={"Accept": "text/html"})).text
    assert 'History</h2><span class="soft small">2 versions</span>' in page


async def test_history_comes_in_pages(service: Service, web: httpx.AsyncClient) -> None:
    for days in (50, 51, 52):
        await put(web, atRiskDays=days)
    listed, query = [], {"limit": "2"}
    while query:
        page = (await web.get(f"{URL}/history", params=query)).json()
        listed += [(item["version"], bool(item["changed"])) for item in page["items"]]
        query = {"limit": "2", "cursor": page["nextCursor"]} if page["nextCursor"] else {}
    assert listed == [(4, True), (3, True), (2, True), (1, False)]
    await apply_all(service)


async def test_saving_without_a_change_makes_no_version(
    service: Service, web: httpx.AsyncClient
) -> None:
    assert (await put(web, **DEFAULTS))["version"] == 1
    assert (await put(web))["version"] == 1
    assert await service.rows("SELECT * FROM settings_changes") == []


@pytest.mark.parametrize("path", ["PUT ", "POST /preview"])
@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"atRiskDays": 90}, "body.atRiskDays"),
        ({"inactiveDays": 60}, "body.inactiveDays"),
        ({"atRiskDays": 100, "inactiveDays": 99}, "body.atRiskDays"),
        ({"atRiskDays": -1}, "body.atRiskDays"),
        ({"atRiskDays": 0}, "body.atRiskDays"),
        ({"inactiveDays": 40_000}, "body.inactiveDays"),
        ({"atRiskDays": 45.5}, "body.atRiskDays"),
        ({"vipOrderCount": 0}, "body.vipOrderCount"),
        ({"vipTotalSpent": -0.01}, "body.vipTotalSpent"),
        ({"vipTotalSpent": 1.001}, "body.vipTotalSpent"),
        ({"vipTotalSpent": 10**12}, "body.vipTotalSpent"),
        ({"vipTotalSpent": "NaN"}, "body.vipTotalSpent"),
        ({"autoSegmentation": "perhaps"}, "body.autoSegmentation"),
        ({"precedence": "random"}, "body.precedence"),
        ({"vipOrders": 5}, "body.vipOrders"),
        ([], "body"),
    ],
)
async def test_impossible_settings_are_refused(
    service: Service, web: httpx.AsyncClient, path: str, body: object, where: str
) -> None:
    method, _, rest = path.partition(" ")
    response = await web.request(method, URL + rest, json=body)
    assert response.status_code == 422, response.text
    problem = Problem.model_validate_json(response.content)
    assert {fault.where for fault in problem.errors} == {where}
    assert len(await service.rows("SELECT * FROM settings")) == 1


async def test_saving_is_refused_if_somebody_else_has_changed_the_settings(
    service: Service, web: httpx.AsyncClient
) -> None:
    etag = (await web.get(URL)).headers["etag"]
    await put(web, atRiskDays=50, expectedVersion=1)
    late = await web.put(URL, json={"atRiskDays": 40, "expectedVersion": 1})
    assert (late.status_code, late.json()["current"]["atRiskDays"]) == (409, 50)
    later = await web.put(URL, json={"atRiskDays": 40}, headers={"If-Match": etag})
    assert (later.status_code, later.json()["current"]["version"]) == (412, 2)
    right = await web.put(URL, json={"atRiskDays": 40}, headers={"If-Match": '"2"'})
    assert right.json()["version"] == 3
    await apply_all(service)


async def test_simultaneous_saves_make_one_version_each(
    service: Service, web: httpx.AsyncClient
) -> None:
    saved = await asyncio.gather(*(put(web, atRiskDays=days) for days in range(20, 30)))
    assert sorted(each["version"] for each in saved) == list(range(2, 12))
    unfinished = "SELECT version FROM settings_changes WHERE finished_at IS NULL"
    assert await service.rows(unfinished) == [{"version": 11}]
    await apply_all(service)


def _proposal(rng: random.Random) -> dict[str, Any]:
    at_risk = rng.randrange(1, 150)
    return {
        "vipOrderCount": rng.randrange(1, 6),
        "vipTotalSpent": rng.randrange(100_000) / 100,
        "atRiskDays": at_risk,
        "inactiveDays": at_risk + rng.randrange(1, 100),
        "precedence": rng.choice(["recency_first", "value_first"]),
        "autoSegmentation": rng.random() < 0.8,
    }


async def test_a_preview_equals_the_effect_of_applying(
    service: Service, web: httpx.AsyncClient, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(10**9)
    rng = random.Random(seed)
    monkeypatch.setattr(reclassify, "CHUNK", 17)
    await populate(service, rng, now)
    rows = await service.rows("SELECT id, segment FROM customers ORDER BY id")
    before = {row["id"]: row["segment"] for row in rows}
    moves = 0
    for _ in range(8):
        proposal = _proposal(rng)
        previewed = await preview(web, **proposal)
        saved = await put(web, **proposal)
        if saved["version"] != previewed["basedOnVersion"]:
            assert saved["version"] == previewed["basedOnVersion"] + 1
        await apply_all(service)
        rows = await service.rows("SELECT id, segment FROM customers ORDER BY id")
        after = {row["id"]: row["segment"] for row in rows}
        matrix = Counter((before[id_], after[id_]) for id_ in before)
        cells = {(cell["from"], cell["to"]): cell["count"] for cell in previewed["items"]}
        assert cells == matrix, (seed, proposal)
        assert list(cells) == [(a, b) for a in SEGMENTS for b in SEGMENTS if (a, b) in cells]
        changes = await service.rows(
            "SELECT previous, segment FROM segment_changes"
            " WHERE cause = 'rules' AND settings_version = :version",
            version=saved["version"],
        )
        moved = {pair: n for pair, n in matrix.items() if pair[0] != pair[1]}
        assert Counter((row["previous"], row["segment"]) for row in changes) == moved
        assert previewed["events"] == previewed["customersConcerned"] == sum(moved.values())
        for cell in previewed["items"]:
            ids = [id_ for id_ in before if (before[id_], after[id_]) == (cell["from"], cell["to"])]
            assert [each["id"] for each in cell["sample"]] == [f"CUST-{id_}" for id_ in ids[:5]]
        before, moves = after, moves + sum(moved.values())
    assert moves, seed


async def test_a_preview_shows_the_customers_concerned_and_changes_nothing(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    placed = now - timedelta(days=50)
    await service.ingest(
        entry("ORD-1", email="a@x.org", name="Ann", created=placed, total="10"),
        entry("ORD-2", email="a@x.org", created=placed, total="2.50"),
        entry("ORD-3", email="b@x.org", created=now),
    )
    tables = ("customers", "segment_changes", "settings", "settings_changes")
    stored = {table: await service.rows(f"SELECT * FROM {table}") for table in tables}
    answer = await preview(web, atRiskDays=45)
    assert answer["items"] == [
        {
            "from": "new",
            "to": "new",
            "count": 1,
            "sample": [
                {
                    "id": "CUST-1002",
                    "name": None,
                    "totalOrders": 1,
                    "totalSpent": 100.00,
                    "lastOrderDate": now.isoformat().replace("+00:00", "Z"),
                }
            ],
        },
        {
            "from": "returning",
            "to": "at_risk",
            "count": 1,
            "sample": [
                {
                    "id": "CUST-1001",
                    "name": "Ann",
                    "totalOrders": 2,
                    "totalSpent": 12.50,
                    "lastOrderDate": placed.isoformat().replace("+00:00", "Z"),
                }
            ],
        },
    ]
    assert (answer["events"], answer["customersConcerned"], answer["total"]) == (1, 1, 2)
    assert answer["settings"] == {**DEFAULTS, "atRiskDays": 45}
    assert {table: await service.rows(f"SELECT * FROM {table}") for table in tables} == stored


async def test_switching_automatic_segmentation_off_moves_nobody_and_on_moves_everybody(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    off = await put(web, autoSegmentation=False)
    assert (await change(web, off["change"]))["status"] == "finished"
    await service.ingest(
        *(entry(f"ORD-{n}", email="a@x.org", created=now - timedelta(days=70)) for n in range(4)),
        entry("ORD-9", email="b@x.org", created=now),
    )
    assert (await preview(web, vipOrderCount=1))["events"] == 0
    assert (await preview(web, autoSegmentation=True))["events"] == 1
    await put(web, vipOrderCount=1)
    assert await apply_all(service) == 0
    on = await put(web, autoSegmentation=True)
    assert (await change(web, on["change"]))["percentage"] == 0
    await apply_all(service)
    done = await change(web, on["change"])
    assert (done["status"], done["total"], done["examined"]) == ("finished", 2, 2)
    assert (done["moved"], done["percentage"]) == (2, 100)
    rows = await service.rows("SELECT segment FROM customers ORDER BY id")
    assert [row["segment"] for row in rows] == ["at_risk", "vip"]


async def test_newer_settings_end_an_unfinished_change(
    service: Service, web: httpx.AsyncClient, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclassify, "CHUNK", 10)
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"c{n:02}@x.org", created=now) for n in range(25))
    )
    first = await put(web, vipOrderCount=1)
    async with service.engine.begin() as connection:
        assert await reclassify.advance(connection)
    running = await change(web, first["change"])
    assert (running["status"], running["examined"], running["moved"]) == ("running", 10, 10)
    assert (running["percentage"], running["finishedAt"]) == (40, None)
    assert await service.findings() == []
    second = await put(web, vipOrderCount=2)
    assert (await change(web, first["change"]))["status"] == "superseded"
    assert await apply_all(service) == 3
    done = await change(web, second["change"])
    assert (done["status"], done["examined"], done["moved"]) == ("finished", 25, 10)
    rows = await service.rows("SELECT count(*) AS n FROM customers WHERE segment = 'new'")
    assert rows == [{"n": 25}]


async def test_verify_finds_wrong_segments_among_customers_already_examined(
    empty_service: Service, now: datetime
) -> None:
    service = empty_service
    await service.ingest(*(entry(f"ORD-{n}", email=f"{n}@x.org", created=now) for n in range(3)))
    await service.execute("UPDATE customers SET segment = 'inactive'")
    await service.execute(
        "INSERT INTO settings_changes (version, total, last_id) VALUES (1, 3, 1001)"
    )
    (finding,) = [each for each in await service.findings() if each.number == 4]
    assert [offender["customer"] for offender in finding.offenders] == [1001]


async def test_new_settings_wait_for_batches_that_judge_by_the_old_ones(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    """Otherwise a batch could write old segments of customers whom the job has already examined."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    from consumers.orders import judge_all  # noqa: PLC0415

    async with service.engine.connect() as watching:

        async def until_waiting(sessions: int) -> None:
            async def reached() -> bool:
                await watching.rollback()
                return bool((await watching.execute(waiting)).scalar_one() == sessions)

            await until(reached)

        async with service.engine.begin() as connection:
            batch = judge_all([entry("ORD-1", email="a@x.org", created=now)], service.config)
            await ingest(connection, batch)
            saving = asyncio.create_task(put(web, vipOrderCount=1))
            await until_waiting(1)
            other = asyncio.create_task(
                service.ingest(entry("ORD-2", email="b@x.org", created=now))
            )
            await until_waiting(2)
        await asyncio.gather(saving, other)
    rows = await service.rows(
        "SELECT customer_id, segment, settings_version FROM segment_changes ORDER BY customer_id"
    )
    assert [tuple(row.values()) for row in rows] == [(1001, "new", 1), (1002, "vip", 2)]
    await apply_all(service)
    assert await service.rows("SELECT segment FROM customers") == [{"segment": "vip"}] * 2


async def test_only_an_admin_may_save(service: Service, web: httpx.AsyncClient) -> None:
    from service.core.scopes import Scope  # noqa: PLC0415
    from service.db.accounts.api_keys import create_key  # noqa: PLC0415

    async with service.engine.begin() as connection:
        scopes = [Scope.READ, Scope.WRITE, Scope.EXPORT]
        key = await create_key(connection, "dashboard", scopes, expires_at=None, actor="test")
    headers = {"X-API-Key": key.reveal()}
    assert (await web.put(URL, json={"atRiskDays": 50}, headers=headers)).status_code == 403
    assert (await web.post(f"{URL}/preview", json={}, headers=headers)).status_code == 200


async def test_money_is_exact(service: Service, web: httpx.AsyncClient) -> None:
    await put(web, vipTotalSpent="123456789012.34")
    body = json.loads((await web.get(URL)).text, parse_float=Decimal)
    assert body["vipTotalSpent"] == Decimal("123456789012.34")
    await apply_all(service)
