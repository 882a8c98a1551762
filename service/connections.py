"""Redis connections that call a reset by its name.

uvloop answers a write to a connection that the other side has reset with a bare RuntimeError.
redis-py takes that for nobody's fault in particular and does not try again: workers died of it.
"""

from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as LostError


class _Named:
    """Mixed into redis-py's connections."""

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  redis-py's signature
    ) -> None:
        """Send a command. Raises redis-py's ConnectionError, which it retries, on a reset."""
        connection: Any = super()
        try:
            await connection.send_packed_command(command, check_health)
        except RuntimeError as error:
            raise LostError(str(error)) from error


class _Plain(_Named, Connection):
    pass


class _Tls(_Named, SSLConnection):
    pass


class _Unix(_Named, UnixDomainSocketConnection):
    pass


def connection_class(url: str) -> Any:
    """Give the class of connections to a ``redis://``, ``rediss://`` or ``unix://`` URL."""
    return {"rediss": _Tls, "unix": _Unix}.get(url.partition(":")[0], _Plain)
