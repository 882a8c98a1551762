"""Find the addresses of a host, to refuse an endpoint before anything is sent to it."""

import asyncio
import socket

from service.core.addresses import Reach, reach, refusal
from service.core.endpoints import BadUrlError, target_of

_SECONDS = 5.0
_WAY_OUT = ". Only the command line can allow that: crm hooks add-endpoint --allow-private"


async def check_url(url: str, *, allow_private: bool) -> None:
    """Check that an endpoint may have this URL, and that its host is known. Raises BadUrlError.

    The addresses of a host may change. So the worker checks again at each connection.
    """
    target = target_of(url, allow_private=allow_private)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        msg = f"names a host that cannot be found: {target.host}"
        raise BadUrlError(msg) from None
    for *_, (address, *_) in found:
        why = refusal(str(address), allow_private=allow_private, is_plain=target.is_plain)
        if why:
            way_out = _WAY_OUT if reach(str(address)) is Reach.PRIVATE else ""
            msg = f"leads to an address that is not allowed: {why}{way_out}"
            raise BadUrlError(msg)
