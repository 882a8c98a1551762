"""The proxy really delays, swallows and resets; without that, a run proves nothing."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.processes import HOST
from tests.system.chaos.proxy import Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Yield a proxy before a server that answers each line with the same line."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with Proxy(server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


async def _ask(proxy: Proxy, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(line)
        return await reader.readline()
    finally:
        writer.close()


async def test_the_proxy_passes_data_on(proxy: Proxy) -> None:
    assert await _ask(proxy, b"hello\n") == b"hello\n"


async def test_the_proxy_delays_both_directions(proxy: Proxy) -> None:
    proxy.delay = 0.2
    started = time.monotonic()
    assert await _ask(proxy, b"hello\n") == b"hello\n"
    assert time.monotonic() - started >= 0.4


async def test_the_proxy_swallows_one_answer_and_closes_its_connection(proxy: Proxy) -> None:
    proxy.answers_to_lose = 1
    with pytest.raises(ConnectionResetError):
        await _ask(proxy, b"hello\n")
    assert proxy.lost == 1
    assert await _ask(proxy, b"again\n") == b"again\n"


async def test_the_proxy_resets_connections(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await reader.readline()
    writer.close()
