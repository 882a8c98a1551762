"""A relay that hangs, or is cut off without a word, does not stop the relaying."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from consumers.relay import Relay
from consumers.tasks import end
from service.db.engine import create_engine
from service.streams import redis_client
from tests.conftest import Service
from tests.integration.worker.scene import all_published, change, relaying
from tests.processes import HOST, Processes
from tests.system.chaos.proxy import Proxy
from tests.wait import until

BOUND = 45.0
"""Less than the minute for which clients wait for an answer."""


def through(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    return url.replace(f"@{parts.hostname}:{parts.port}", f"@{HOST}:{proxy.port}")


@contextlib.asynccontextmanager
async def relaying_through(
    service: Service, *, postgres: Proxy | None = None, redis: Proxy | None = None
) -> AsyncIterator[Relay]:
    """Run a relay that reaches its servers through proxies."""
    database_url, redis_url = service.config.database_url or "", service.config.redis_url or ""
    engine = create_engine(
        through(database_url, postgres) if postgres else database_url, application="crm relay"
    )
    client = redis_client.connect(through(redis_url, redis) if redis else redis_url)
    relay = Relay(engine, client, service.config)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        await end([task])
        await client.aclose()
        await engine.dispose()


async def leads(relay: Relay) -> None:
    async def is_leading() -> bool:
        return relay.leading

    await until(is_leading, BOUND)


def _port(url: str | None) -> int:
    port = urlsplit(url or "").port
    assert port
    return port


async def test_another_relay_takes_over_from_one_that_postgres_no_longer_hears(
    service: Service,
) -> None:
    async with (
        Proxy(_port(service.config.database_url)) as proxy,
        relaying_through(service, postgres=proxy) as cut_off,
    ):
        await leads(cut_off)
        async with relaying(service) as other:
            # New connections are swallowed, too: else the relay that was cut off may win again.
            proxy.silent = True
            await change(service, 1, 2)
            await leads(other)
            await all_published(service, BOUND)


async def test_a_lone_relay_goes_on_after_postgres_answers_were_lost(service: Service) -> None:
    async with (
        Proxy(_port(service.config.database_url)) as proxy,
        relaying_through(service, postgres=proxy) as relay,
    ):
        await leads(relay)
        proxy.freeze()
        await change(service, 1, 2)
        await all_published(service, BOUND)


async def test_another_relay_takes_over_from_one_that_redis_no_longer_answers(
    service: Service,
) -> None:
    async with (
        Proxy(_port(service.config.redis_url)) as proxy,
        relaying_through(service, redis=proxy) as cut_off,
    ):
        await leads(cut_off)
        async with relaying(service):
            proxy.silent = True
            await change(service, 1, 2)
            await all_published(service, BOUND)


async def test_another_worker_takes_over_when_the_leader_hangs(
    service: Service, crm: Processes
) -> None:
    leader = await crm.worker()

    async def is_leading() -> bool:
        return "this worker relays now" in leader.output

    await until(is_leading)
    other = await crm.worker()
    leader.send(signal.SIGSTOP)
    await change(service, 1, 2)
    await all_published(service, BOUND)
    assert "this worker relays now" in other.output
    leader.send(signal.SIGCONT)
