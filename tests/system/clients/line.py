"""A connection between a program and Redis that fails at a chosen request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.processes import HOST

_CHUNK = 1 << 16


class Line:
    """A proxy that passes everything on, except for one request or its answer."""

    def __init__(self, port: int, *, lose: bytes = b"", hold: bytes = b"") -> None:
        """Create the proxy of the Redis at this port.

        The first request that contains ``lose`` reaches Redis, but the connection ends before its
        answer is passed on. The first request that contains ``hold`` does not reach Redis, and
        neither does anything after it on its connection.
        """
        self.lost = False
        self.held = False
        self._port = port
        self._lose = lose
        self._hold = hold

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen until the block ends; yield the port."""
        server = await asyncio.start_server(self._serve, HOST, 0)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(HOST, self._port)
        losing = asyncio.Event()
        ways = {
            asyncio.ensure_future(self._ask(reader, requests, losing)),
            asyncio.ensure_future(self._answer(answers, writer, losing)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (requests, writer):
                end.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while piece := await reader.read(_CHUNK):
            if self._hold and self._hold in piece:
                self._hold, self.held = b"", True
                while await reader.read(_CHUNK):
                    pass
                return
            if self._lose and self._lose in piece:
                self._lose = b""
                losing.set()
            writer.write(piece)
            await writer.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while piece := await reader.read(_CHUNK):
            if losing.is_set():
                self.lost = True
                return
            writer.write(piece)
            await writer.drain()
