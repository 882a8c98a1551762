"""A proxy before Postgres that counts round trips."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from sqlalchemy.engine import make_url

HOST = "127.0.0.1"
_AT_ONCE = 1 << 16


class Wire:
    """Counts round trips of one connection."""

    def __init__(self) -> None:
        self.round_trips = 0
        """Answers that began after something had been asked."""
        self._asked = False

    def asked(self) -> None:
        self._asked = True

    def answered(self) -> None:
        self.round_trips += self._asked
        self._asked = False


@contextlib.asynccontextmanager
async def wire(database_url: str) -> AsyncIterator[tuple[str, Wire]]:
    """Pass bytes on to the server; yield the URL of the proxy and the count, for one connection."""
    url = make_url(database_url)
    counted = Wire()
    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(url.host, url.port or 5432)
        for source, target, seen in (
            (reader, to_server, counted.asked),
            (from_server, writer, counted.answered),
        ):
            task = asyncio.create_task(_pass_on(source, target, seen))
            passing.add(task)
            task.add_done_callback(passing.discard)

    server = await asyncio.start_server(accept, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield url.set(host=HOST, port=port).render_as_string(hide_password=False), counted
    finally:
        server.close()
        await asyncio.gather(*passing)


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, seen: Callable[[], None]
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_AT_ONCE):
            seen()
            target.write(data)
            await target.drain()
    target.close()
