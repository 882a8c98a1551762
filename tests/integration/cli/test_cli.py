"""Commands: what they do, what they print, and the exit statuses that scripts rely on."""

import asyncio
import sys
import tomllib
from pathlib import Path

import pytest

from service.db.grants import WORKER
from service.server_urls import masked
from service.streams import groups
from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.cli.conftest import Crm
from tests.paths import ROOT
from tests.processes import free_port, processes
from tests.reading import deliver

KEYS = {
    "httpUrl",
    "redisUrl",
    "databaseUrl",
    "lag",
    "pending",
    "deadLetters",
    "refusedUpdates",
    "unpublished",
    "oldestUnpublishedSeconds",
    "sweepOverdueSeconds",
}
FACTS = (
    "Entries not read yet",
    "Entries read, not applied yet",
    "Dead letters",
    "Updates of known orders among them",
    "Segment changes to publish",
    "Oldest of them waits for",
    "Sweep overdue by",
    "Open losses",
    "Records of foreign entries",
    "Changes for `crm recover`",
)
COMMANDS = ("up", "worker", "web", "migrate", "status", "verify", "demo")


async def test_status_counts_unread_pending_and_unpublished(
    empty_service: Service, crm: Crm
) -> None:
    service = empty_service
    await service.ingest(entry("ORD-1", email="a@x.org"), entry("ORD-2", email="b@x.org"))
    await service.ingest(entry("ORD-3", status="nonsense"), entry("ORD-2", status="nonsense"))
    await service.execute(
        "UPDATE segment_changes SET changed_at = now() - interval '100 seconds' WHERE id = 1"
    )
    await service.execute(
        "UPDATE customers SET segment_manual = true, segment = 'vip',"
        " segment_held_since = now() - interval '1 hour',"
        " segment_pinned_until = now() - interval '5 minutes' WHERE id = 1001"
    )
    for number in range(5):
        await service.publish(fields(f"ORD-W{number}"))
    stream, group = service.config.orders_stream, service.config.orders_group
    await groups.ensure_group(service.redis, stream, group)
    await deliver(service.redis, stream, group, "me", count=2)
    ended = await crm("status", "--json", http_port=8123)
    assert ended.status == 0, ended.err
    report = ended.document
    assert report.keys() >= KEYS
    assert report["httpUrl"] == "http://127.0.0.1:8123"
    database_url, redis_url = service.servers.url_of(WORKER), service.config.redis_url or ""
    assert report["redisUrl"] == masked(redis_url) != redis_url
    assert report["databaseUrl"] == masked(database_url) != database_url
    plain = await crm("status", "--json", "--show-secrets")
    assert plain.document["redisUrl"] == redis_url
    assert plain.document["databaseUrl"] == database_url
    assert (await crm("status", "--redis-url")).out == f"{redis_url}\n"
    assert (report["lag"], report["pending"]) == (3, 2)
    assert (report["deadLetters"], report["refusedUpdates"], report["unpublished"]) == (2, 1, 2)
    assert 100 <= report["oldestUnpublishedSeconds"] < 160
    assert 240 <= report["sweepOverdueSeconds"] < 300


async def test_status_of_a_quiet_service_is_all_zero(empty_service: Service, crm: Crm) -> None:
    ended, for_people = await asyncio.gather(crm("status", "--json"), crm("status"))
    assert ended.status == for_people.status == 0, ended.err
    waits = KEYS - {"httpUrl", "redisUrl", "databaseUrl"}
    assert {name: ended.document[name] for name in waits} == dict.fromkeys(waits, 0)
    assert all(f"{name}\t0" in for_people.out for name in FACTS)
    assert await empty_service.findings() == []


async def test_status_names_the_server_that_is_away(migrated: Service, crm: Crm) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    without_redis, without_database = await asyncio.gather(
        crm("status", "--json", redis_url=f"redis://{nowhere}/0"),
        crm("status", "--json", database_url=f"postgresql://crm:x@{nowhere}/crm"),
    )
    assert without_redis.status == without_database.status == 1
    assert without_redis.document["lag"] is None
    assert without_redis.document["redis"].startswith("away")
    assert without_redis.document["database"] == "ok"
    assert without_database.document["unpublished"] is None
    assert without_database.document["database"].startswith("away")
    assert without_database.document["redis"] == "ok"
    assert not without_redis.err
    assert migrated.servers.redis_url not in without_redis.out


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"database_url": "mysql://x"}, "CRM_DATABASE_URL: must start with postgres"),
        ({"http_port": "eighty"}, "CRM_HTTP_PORT: Input should be a valid integer"),
        ({"database_url": None}, "CRM_DATABASE_URL not set, and no local stack runs in "),
    ],
)
async def test_wrong_configuration_is_one_sentence(
    crm: Crm, settings: dict[str, object], sentence: str
) -> None:
    ended = await crm("status", **settings)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith(f"crm: {sentence}")
    assert ended.err.count("\n") == 1


_LIBRARIES = """
import sys
import consumers.worker, service.cli.main, service.http.app
from service.config import Config
from service.core.identifiers import email_key
Config.load()
assert email_key(" <Jane@example.com>")
late = {"phonenumbers", "numpy", "scipy", "service.insight", "service.cli.verify"}
print(sorted(late & sys.modules.keys()))
"""


async def test_a_process_loads_no_library_before_it_needs_it() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LIBRARIES, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert printed == b"[]\n"


async def test_every_wrong_setting_is_named(crm: Crm) -> None:
    ended = await crm(
        "worker", redis_url="http://x", http_port="x", worker_port=65536, store_currency="usd"
    )
    assert ended.status == 2
    assert [line.removeprefix("crm: ").partition(":")[0] for line in ended.err.splitlines()] == [
        "CRM_REDIS_URL",
        "CRM_HTTP_PORT",
        "CRM_WORKER_PORT",
        "CRM_STORE_CURRENCY",
    ]
    assert "Traceback" not in ended.err


async def test_up_that_cannot_start_says_why_on_standard_error(crm: Crm, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    ended = await crm("up", data_dir=taken)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"crm: cannot use {taken} as data folder")
    assert ended.err.count("\n") == 1


async def test_migrating_again_changes_nothing(empty_service: Service, crm: Crm) -> None:
    await empty_service.ingest(entry("ORD-1", email="a@x.org"))
    once, twice = await crm("migrate"), await crm("migrate")
    assert once.status == twice.status == 0, once.err
    assert once.out == twice.out
    assert "schema at " in once.out
    assert len(await empty_service.rows("SELECT * FROM customers")) == 1


async def test_help_lists_the_commands(crm: Crm) -> None:
    ended = await crm("--help")
    assert ended.status == 0
    words = ended.out.split()
    assert [name for name in COMMANDS if name not in words] == []


async def test_version_prints_the_release(crm: Crm) -> None:
    ended = await crm("--version")
    assert ended.status == 0
    assert (
        ended.out
        == f"{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"
    )


async def test_verify_ends_with_1_if_an_invariant_is_broken(service: Service, crm: Crm) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", total="10.00"))
    sound = await crm("verify")
    await service.execute("UPDATE customers SET total_spent = 11")
    broken = await crm("verify")
    await service.execute("UPDATE customers SET total_spent = 10")
    assert (sound.status, broken.status) == (0, 1), sound.err + broken.err
    assert sound.out.count("holds") == 11
    assert broken.out.startswith(
        " 1  metrics equal the orders: BROKEN\n"
        "      A customer's figures are not those of their orders:\n        customer=1001, "
    )
    assert "total_spent=11.00, spent=10.00" in broken.out
    assert "      → `crm rebuild --apply` recomputes it.\n" in broken.out


async def test_web_serves_until_sigterm(empty_service: Service, tmp_path: Path) -> None:
    async with processes(empty_service.servers, tmp_path) as started:
        web = await started.web()
        status, body = await web.ask("/readyz")
        assert (status, body["parts"]["database"], body["parts"]["redis"]) == (200, "ok", "ok")
        assert body["parts"]["worker"].startswith("not ready")
        assert await web.terminate() in {0, -15}
