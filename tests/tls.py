"""Both servers behind TLS, with certificates that the test made.

The servers from the wheels are built without TLS. So a relay in front of them ends it, which is
also how many managed servers do it. Clients cannot tell the difference.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme

HOST = "localhost"
"""The name in the servers' certificates."""
ADDRESS = "127.0.0.1"
"""The same place by another name, which is not in the certificates."""
_AT_ONCE = 65_536
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client of PostgreSQL sends before it begins TLS; the server answers S."""


@dataclass(frozen=True)
class Tls:
    """Files of an authority, and URLs of both servers without parameters for TLS."""

    authority: Path
    """The certificate of the authority that signed the servers' certificates."""
    stranger: Path
    """The certificate of another authority."""
    postgres_port: int
    redis_port: int

    def postgres(self, url: str, parameters: str, host: str = HOST) -> str:
        """Return a database's URL that leads through TLS."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return f"{parts.scheme}://{login}@{host}:{self.postgres_port}{parts.path}?{parameters}"

    def redis(self, url: str, authority: Path, host: str = HOST) -> str:
        """Return the URL of Redis that leads through TLS and trusts an authority."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return f"rediss://{login}@{host}:{self.redis_port}{parts.path}?ssl_ca_certs={authority}"


@contextlib.asynccontextmanager
async def tls(postgres_url: str, redis_url: str, folder: Path) -> AsyncIterator[Tls]:
    """Serve both behind TLS on ``localhost``, by certificates for that name only."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    async with (
        _relay(postgres_url, 5432, context, asks_first=True) as postgres_port,
        _relay(redis_url, 6379, context, asks_first=False) as redis_port,
    ):
        yield Tls(folder / "authority.pem", folder / "stranger.pem", postgres_port, redis_port)


@contextlib.asynccontextmanager
async def _relay(
    url: str, usual_port: int, context: ssl.SSLContext, *, asks_first: bool
) -> AsyncIterator[int]:
    target = urlsplit(url)
    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if asks_first:
                if await reader.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
                    writer.close()  # a client without TLS
                    return
                writer.write(b"S")
                await writer.start_tls(context)
            to = await asyncio.open_connection(target.hostname, target.port or usual_port)
            for source, sink in ((reader, to[1]), (to[0], writer)):
                task = asyncio.create_task(_pass_on(source, sink))
                passing.add(task)
                task.add_done_callback(passing.discard)

    server = await asyncio.start_server(accept, ADDRESS, 0, ssl=None if asks_first else context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(passing):
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_AT_ONCE):
            sink.write(data)
            await sink.drain()
    sink.close()
