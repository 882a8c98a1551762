"""A reset of a connection to Redis is reported as a lost connection, also by uvloop."""

from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop
from redis.exceptions import ConnectionError as LostError

from service.streams import redis_client
from tests.processes import HOST
from tests.servers import Servers
from tests.system.chaos.proxy import Proxy
from tests.wait import until


def test_a_write_after_a_reset_raises_a_connection_error(real_servers: Servers) -> None:
    uvloop.run(_write_after_reset(real_servers.redis_url))


async def _write_after_reset(redis_url: str) -> None:
    parts = urlsplit(redis_url)
    assert parts.port
    async with Proxy(parts.port) as proxy:
        url = redis_url.replace(f":{parts.port}", f":{proxy.port}").replace(
            str(parts.hostname), HOST
        )
        async with redis_client.connect(url) as redis:
            pool: Any = redis.connection_pool
            connection = await pool.get_connection()
            try:
                proxy.reset()

                async def is_closed() -> bool:
                    return bool(connection._writer.transport.is_closing())

                await until(is_closed)
                with pytest.raises(LostError):
                    await connection.send_command("PING", check_health=False)
            finally:
                await pool.release(connection)
            assert await redis.ping()
