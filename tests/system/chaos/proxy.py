"""A TCP proxy that can delay data, cut connections and swallow answers."""

import asyncio
import contextlib
import socket
import struct
from typing import Self

from tests.processes import HOST

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # with no time to linger, closing sends RST


class Proxy:
    """Passes everything on to a port of this machine, unless a fault is set."""

    def __init__(self, target: int, port: int = 0) -> None:
        """Remember the target's port and its own one, which is any free one if it is 0.

        It listens only inside its `async with` block.
        """
        self.delay = 0.0
        """Seconds by which data is late, in both directions."""
        self.silent = False
        """Whether everything is swallowed on all connections that are used, new ones too."""
        self.answers_to_lose = 0
        """The number of answers to swallow; each takes its connection down with it."""
        self.lost = 0
        self.cut = 0
        self._target = target
        self._closing = asyncio.Event()
        self._wanted = port
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._frozen: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._served: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, HOST, self._wanted)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        self._server.close()
        self._closing.set()
        self.reset()
        await asyncio.gather(*self._served, return_exceptions=True)

    def freeze(self) -> None:
        """Swallow everything on the connections that exist now; neither side is told."""
        self._frozen |= self._connections

    def _swallows(self, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> bool:
        return self.silent or ends in self._frozen

    def reset(self) -> None:
        """Reset all connections."""
        for pair in tuple(self._connections):
            self._cut(*pair)

    def _cut(self, *ends: asyncio.StreamWriter) -> None:
        self.cut += 1
        for writer in ends:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        try:
            their_reader, their_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            self._cut(writer)
            return
        ends = (writer, their_writer)
        self._connections.add(ends)
        try:
            await asyncio.gather(
                self._pass(reader, their_writer, ends, answers=False),
                self._pass(their_reader, writer, ends, answers=True),
            )
        except OSError:
            pass
        finally:
            self._connections.discard(ends)
            for end in ends:
                end.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        answers: bool,
    ) -> None:
        while (piece := await reader.read(_CHUNK)) or self._swallows(ends):
            if self._swallows(ends):
                await self._closing.wait()
                return
            if self.delay:
                await asyncio.sleep(self.delay)
            if answers and self.answers_to_lose:
                self.answers_to_lose -= 1
                self.lost += 1
                self._cut(*ends)
                return
            writer.write(piece)
            await writer.drain()
        if not writer.is_closing():
            writer.write_eof()
