"""Everything that runs during a run, and what faults and audit need to know about it."""

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
from redis.exceptions import RedisError

from consumers.tasks import end
from service.config import asyncpg_url
from service.db import migrate
from tests.processes import HOST
from tests.system.chaos.analytics import Analytics
from tests.system.chaos.crew import Crew
from tests.system.chaos.hooks import Hooks
from tests.system.chaos.points import Points
from tests.system.chaos.proxy import Proxy
from tests.system.chaos.publishers import STREAM, Publishers
from tests.system.chaos.servers import Servers, running
from tests.system.chaos.shop import Shop
from tests.wait import until

GROUP = "crm"
BOUND_SECONDS = 120.0
"""Seconds within which all is well again after a fault, also on a slow machine."""
_LOOK_EVERY = 0.05
_ERASE_EVERY = 2.0
_MOVING_SECONDS = 300.0
AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, RedisError, OSError, TimeoutError)


@dataclass
class Stage:
    """The parts of a run. Publishers, consumer and service reach the servers through proxies."""

    servers: Servers
    redis_proxy: Proxy
    postgres_proxy: Proxy
    crew: Crew
    points: Points
    publishers: Publishers
    analytics: Analytics
    redis: Any
    """A client that bypasses the proxy."""
    hooks: Hooks
    backlog: int
    """The number of entries in the fault that piles up a backlog."""
    forged: int = 0
    """The number of entries that faults have forged on the out-stream."""
    answers: Counter[int] = field(default_factory=Counter)
    """Answers of the web processes by status; 0 means that nobody listened."""
    notes: dict[str, str] = field(default_factory=dict)
    """Measurements of faults, for the report."""

    async def recovered(self, seconds: float = BOUND_SECONDS) -> float:
        """Wait until all published events have taken effect; return how long that took.

        That is when none of their entries is pending, and the consumer of the out-stream knows a
        customer whose first order is published now.
        """
        started = time.monotonic()
        published = self.publishers.ledger.confirmed()
        email = await self.publishers.probe()
        last = (await self.redis.xinfo_stream(STREAM))["last-generated-id"]
        await until(lambda: self._done_until(last, email), seconds)
        self.publishers.applied(published)
        return time.monotonic() - started

    async def _done_until(self, last: bytes, email: str) -> bool:
        await asyncio.sleep(_LOOK_EVERY)
        try:
            waiting = await self.redis.xpending_range(STREAM, GROUP, "-", last, 1)
            rows = await self.servers.sql("SELECT id FROM customers WHERE email_key = $1", email)
        except AWAY:
            return False
        arrived = bool(rows) and f"CUST-{rows[0]['id']}" in self.analytics.segments
        return arrived and not waiting

    async def lag(self) -> int:
        """Return the number of entries that no worker has read."""
        groups = await self.redis.xinfo_groups(STREAM)
        return sum(group["lag"] or 0 for group in groups if group["name"] == GROUP.encode())

    async def noticed_losses(self) -> int:
        """Return how many losses of Redis the service has recorded."""
        return int((await self.servers.sql("SELECT count(*) FROM losses"))[0]["count"])

    async def notices(self, losses: int) -> bool:
        """Wait until the service has recorded that many losses; return False if it does not."""

        async def recorded() -> bool:
            try:
                return await self.noticed_losses() >= losses
            except AWAY:
                return False

        with contextlib.suppress(AssertionError):
            await until(recorded, BOUND_SECONDS)
            return True
        return False

    async def drained(self) -> None:
        """Wait until no entry, no event and no merge waits; nobody may publish meanwhile."""
        await until(self._nothing_waits, BOUND_SECONDS)

    async def _nothing_waits(self) -> bool:
        await asyncio.sleep(_LOOK_EVERY)
        try:
            stream = await self.redis.xinfo_stream(STREAM)
            groups = await self.redis.xinfo_groups(STREAM)
            rows = await self.servers.sql(
                "SELECT r.numbered - r.published + s.numbered - s.published"
                " + (SELECT count(*) FROM segment_changes WHERE publish_number IS NULL)"
                " + (SELECT count(*) FROM removals WHERE publish_number IS NULL) AS unpublished,"
                " (SELECT count(*) FROM pending_merges WHERE NOT protected) AS due"
                " FROM relay r, removals_relay s"
            )
        except AWAY:
            return False
        group = next((group for group in groups if group["name"] == GROUP.encode()), None)
        return (
            group is not None
            and group["last-delivered-id"] == stream["last-generated-id"]
            and not group["pending"]
            and not rows[0]["unpublished"]
            and not rows[0]["due"]
        )

    async def crm(self, *arguments: str) -> tuple[int, str]:
        """Run a `crm` command past the proxies; return its exit status and output."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.cli", *arguments),
            env={
                **env,
                "CRM_DATABASE_URL": self.servers.database_url,
                "CRM_REDIS_URL": self.servers.redis_url,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask the web processes for statistics during the block, as a dashboard would."""

        async def ask() -> None:
            while True:
                for web in self.crew.webs:
                    status, _ = await web.ask("/api/v1/statistics")
                    self.answers[status] += 1
                await asyncio.sleep(0.5)

        task = asyncio.create_task(ask())
        try:
            yield
            assert not task.done(), "the dashboard has died"
        finally:
            await end([task])

    @contextlib.asynccontextmanager
    async def erasing(self) -> AsyncIterator[None]:
        """Create and erase people during the block, whom no order names.

        At its end nobody is left whose erasure had no answer.
        """

        async def erase() -> None:
            for number in itertools.count():
                person = {"name": "Jane Smith", "email": f"erased-{number}@x.org"}
                await self._request("POST", "/customers", person)
                with contextlib.suppress(*AWAY):
                    await self._erase_all()
                await asyncio.sleep(_ERASE_EVERY)

        async def nobody_is_left() -> bool:
            try:
                return not await self._erase_all()
            except AWAY:
                return False

        task = asyncio.create_task(erase())
        try:
            yield
            assert not task.done(), "nobody is erased any more"
        finally:
            await end([task])
        await until(nobody_is_left, BOUND_SECONDS)

    async def _erase_all(self) -> int:
        """Erase those who were created for it; return how many there were."""
        rows = await self.servers.sql("SELECT id FROM customers WHERE email_key LIKE 'erased-%'")
        for row in rows:
            await self._request("DELETE", f"/customers/CUST-{row['id']}")
        return len(rows)

    async def _request(self, method: str, path: str, body: Any = None) -> None:
        """Ask a web process to change something. It may be away."""
        web = self.crew.webs[0]
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False) as client:
                url = f"http://{HOST}:{web.port}/api/v1{path}"
                await client.request(method, url, json=body)


def _through(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.port}/", f":{proxy.port}/")


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


@contextlib.asynccontextmanager
async def staged(
    kind: str, folder: Path, *, seed: int, seconds: float, per_second: float, backlog: int
) -> AsyncIterator[Stage]:
    """Run everything: servers, two workers, two web processes, the consumer."""
    async with contextlib.AsyncExitStack() as stack:
        servers = await stack.enter_async_context(running(kind, folder / "servers"))
        await migrate.upgrade(asyncpg_url(servers.database_url))
        redis_proxy = await stack.enter_async_context(Proxy(_port(servers.redis_url)))
        postgres_proxy = await stack.enter_async_context(Proxy(_port(servers.database_url)))
        redis_url = _through(servers.redis_url, redis_proxy)
        points = Points(folder / "points")
        crew = Crew(_through(servers.database_url, postgres_proxy), redis_url, folder)
        shop = Shop(seed, datetime.now(UTC), seconds + _MOVING_SECONDS)
        publishers = Publishers(shop, redis_url, per_second)
        analytics = Analytics(redis_url)
        redis = servers.redis_client()
        stage = Stage(
            servers,
            redis_proxy,
            postgres_proxy,
            crew,
            points,
            publishers,
            analytics,
            redis,
            Hooks(),
            backlog,
        )
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(publishers.close)
        await stack.enter_async_context(crew.running(workers=2, webs=2))
        await stack.enter_async_context(analytics.reading())
        await stack.enter_async_context(stage.hooks.running(stage.crm))
        yield stage
