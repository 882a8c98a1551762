"""Each user of `deploy/redis` can do its work and nothing else, on Valkey and on Redis 7."""

import dataclasses
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from service.config import Config
from service.db.customers import editing
from service.local import binaries
from service.streams import redis_client
from tests import redis_users
from tests.conftest import Service
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.integration.worker.scene import all_applied, all_published, change, out_stream, relaying
from tests.paths import DEPLOY
from tests.processes import HOST, Processes, free_port
from tests.redis_users import PASSWORD, PUBLISHER, SERVICE, SUBSCRIBER
from tests.system.chaos.servers import REDIS, VALKEY, debian_redis
from tests.wait import until

ADMIN = "admin"
ORDERS, PARTITION, CHANGES = "orders", "orders:{0}", "customer-segment-changed"
REMOVALS = "customer-removed"
ENVIRONMENT = {
    f"REDIS_{name}_PASSWORD": PASSWORD for name in ("ADMIN", "SERVICE", "PUBLISHER", "SUBSCRIBER")
}
_DENIED = r"(?i)permission|ACL failure|not allowed|can't (run|access)"
NOBODY = (
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("DEBUG", "SLEEP", "0"),
    ("ACL", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "NO", "ONE"),
    ("SAVE",),
    ("MONITOR",),
    ("GET", "something"),
    ("SET", "something", "x"),
    ("DEL", ORDERS),
    ("XSETID", ORDERS, "9-0"),
    ("XGROUP", "DESTROY", ORDERS, "crm"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "something"),
)
REFUSED = {
    SERVICE: (
        ("XADD", "another", "*", "data", "x"),
        ("EVAL", "redis.call('XADD','another','*','a',1)", 0),
    ),
    PUBLISHER: (
        ("XADD", CHANGES, "*", "__data__", "x"),
        ("XADD", REMOVALS, "*", "__data__", "x"),
        ("XRANGE", REMOVALS, "-", "+"),
        ("XADD", "another", "*", "data", "x"),
        ("XRANGE", ORDERS, "-", "+"),
        ("XRANGE", CHANGES, "-", "+"),
        ("XREAD", "STREAMS", ORDERS, "0"),
        ("XGROUP", "CREATE", ORDERS, "mine", "0"),
        ("XTRIM", ORDERS, "MAXLEN", "0"),
        ("XDEL", ORDERS, "1-0"),
        ("INFO",),
        ("EVAL", "return 1", "0"),
    ),
    SUBSCRIBER: (
        ("XADD", CHANGES, "*", "__data__", "x"),
        ("XADD", REMOVALS, "*", "__data__", "x"),
        ("XADD", ORDERS, "*", "data", "x"),
        ("XDEL", CHANGES, "1-0"),
        ("XDEL", REMOVALS, "1-0"),
        ("DEL", REMOVALS),
        ("DEL", CHANGES),
        ("XTRIM", CHANGES, "MAXLEN", "0"),
        ("XSETID", CHANGES, "9-0"),
        ("XGROUP", "SETID", CHANGES, "other", "$"),
        ("XGROUP", "DESTROY", CHANGES, "other"),
        ("XRANGE", ORDERS, "-", "+"),
        ("XDEL", ORDERS, "1-0"),
        ("XREADGROUP", "GROUP", "crm", "x", "STREAMS", ORDERS, ">"),
        ("EVAL", "return 1", "0"),
    ),
}


def _binary(kind: str, folder: Path) -> str:
    binary = debian_redis() if kind == REDIS else str(binaries.valkey(folder))
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    return binary


@pytest.fixture(scope="module", params=[VALKEY, REDIS])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a server as Compose does; yield its port."""
    folder = tmp_path_factory.mktemp("redis")
    number = free_port()
    options = ("--port", str(number), "--bind", HOST, "--dir", str(folder), "--save", "")
    command = ["sh", str(DEPLOY / "redis/start.sh"), _binary(request.param, folder), *options]
    safe = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
    environment = {**os.environ, **ENVIRONMENT, "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, *safe], env=environment, stdout=log, stderr=log
        )
    yield number
    process.send_signal(signal.SIGTERM)
    process.wait()


def _url(user: str, number: int) -> str:
    return redis_users.url_of(user, f"redis://{HOST}:{number}/0")


@pytest.fixture
async def users(port: int) -> AsyncIterator[dict[str, Any]]:
    """Yield a client of each user; the streams have an entry and a group each."""
    clients: dict[str, Any] = {
        user: Redis.from_url(_url(user, port), protocol=2)
        for user in (ADMIN, SERVICE, PUBLISHER, SUBSCRIBER)
    }

    async def answers() -> bool:
        try:
            return bool(await clients[ADMIN].ping())
        except (RedisError, OSError):
            return False

    await until(answers)
    await clients[ADMIN].flushall()
    for stream in (ORDERS, CHANGES, REMOVALS):
        await clients[ADMIN].xadd(stream, {"x": "x"}, id="1-0")
        await clients[ADMIN].xgroup_create(stream, "other", id="0")
    yield clients
    for client in clients.values():
        await client.aclose()


async def test_nobody_may_do_what_only_operators_do(users: dict[str, Any], port: int) -> None:
    for user in (SERVICE, PUBLISHER, SUBSCRIBER):
        for command in (*NOBODY, *REFUSED[user]):
            with pytest.raises((NoPermissionError, RedisError), match=_DENIED):
                await users[user].execute_command(*command)
    with pytest.raises(AuthenticationError):
        async with Redis(host=HOST, port=port) as stranger:
            await stranger.ping()
    assert await users[ADMIN].xlen(ORDERS) == await users[ADMIN].xlen(CHANGES) == 1


async def test_a_publisher_publishes_and_a_subscriber_reads(users: dict[str, Any]) -> None:
    publisher, subscriber = users[PUBLISHER], users[SUBSCRIBER]
    assert await publisher.xadd(ORDERS, {"data": "x"})
    assert await publisher.xadd(PARTITION, {"data": "x"})
    await subscriber.xgroup_create(CHANGES, "mine", id="0", mkstream=True)
    ((_, entries),) = await subscriber.xreadgroup("mine", "me", {CHANGES: ">"}, block=10)
    assert await subscriber.xpending_range(CHANGES, "mine", "-", "+", 10)
    assert await subscriber.xautoclaim(CHANGES, "mine", "me", 0)
    assert await subscriber.xack(CHANGES, "mine", entries[0][0]) == 1
    assert await subscriber.xinfo_groups(CHANGES)
    await subscriber.xgroup_create(REMOVALS, "mine", id="0", mkstream=True)
    read = await subscriber.xreadgroup("mine", "me", {CHANGES: ">", REMOVALS: ">"}, block=10)
    assert [(stream, len(found)) for stream, found in read] == [(REMOVALS.encode(), 1)]
    assert await subscriber.xack(REMOVALS, "mine", read[0][1][0][0]) == 1


async def test_the_whole_service_runs_as_its_user(
    empty_service: Service, users: dict[str, Any], port: int, tmp_path: Path
) -> None:
    """Worker, web and every command, with trimming, reclaiming, foreign entries and recovery."""
    await users[ADMIN].flushall()
    await users[ADMIN].execute_command("ACL", "LOG", "RESET")
    url = _url(SERVICE, port)
    servers = dataclasses.replace(
        empty_service.servers, redis_url=url, redis=None, service_redis_url=url
    )
    config: Config = empty_service.config.model_copy(update={"redis_url": url})
    async with redis_client.connect(url) as redis:
        service = dataclasses.replace(empty_service, config=config, redis=redis, servers=servers)
        crm, commands = Processes(servers, tmp_path), Crm(servers, tmp_path)
        try:
            worker = await crm.worker(orders_keep_entries=1, changes_keep_entries=1)
            await crm.web()
            for number in range(300):
                order = fields(f"ORD-{number}", email=f"c{number}@x.org")
                await users[PUBLISHER].xadd(ORDERS, order)
            await all_applied(service, 300)
            await all_published(service)

            async def is_trimmed() -> bool:
                lengths = [await users[ADMIN].xlen(stream) for stream in (ORDERS, CHANGES)]
                return bool(max(lengths) < 300)

            await until(is_trimmed)
            await users[ADMIN].xadd(CHANGES, {"hello": "world"}, id=f"{2**64 - 1}-5")

            async def is_removed() -> bool:
                return "crm foreign" in worker.output and bool(await users[ADMIN].xlen(CHANGES))

            await until(is_removed)
            await all_published(service)
            assert await worker.terminate() == 0
            assert "ermission" not in worker.output, worker.output
            assert "relay pauses" not in worker.output
        finally:
            await crm.end()
        await change(service, 1, 2)
        (row,) = await service.rows("SELECT max(id) AS id FROM customers")
        async with service.engine.begin() as connection:
            await editing.delete(connection, "test", row["id"])
        async with relaying(service):
            await all_published(service)
        for command in ("status", "recover --apply", "replay --all", "foreign --acknowledge 1"):
            told = await commands(*command.split())
            assert told.status == 0, (command, told.out, told.err)
        assert (await redis_client.warn_of_unsafe_settings(redis)) == []
        assert await out_stream(service)
        assert len(await out_stream(service, REMOVALS)) == 1
    assert await users[ADMIN].execute_command("ACL", "LOG") == []
