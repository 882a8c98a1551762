"""Ports: chosen once, kept in the data folder, and replaced only if another program took one."""

import errno
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path

from service.local import LocalError
from service.local.private_file import write_private

LOOPBACK = "127.0.0.1"

OURS = range(15_000, 30_000)
"""Ports below those that systems use for outgoing connections. Otherwise a client that reconnects
while its server restarts could be given the server's own port, and talk to itself."""

_ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104


def reached_at(host: str) -> str:
    """Return the host at which this machine reaches a server that listens on ``host``."""
    return _ANY_ADDRESS.get(host, host)


def address(host: str, port: int) -> str:
    """Return host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether no program listens there. Raises LocalError if none can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            msg = f"cannot listen on {address(host, port)}: {error.strerror}."
            raise LocalError(msg) from None
    return True


def _any_free(host: str, avoid: set[int]) -> int:
    # Not the shared generator: two processes that were given one seed would choose the same port.
    for port in random.SystemRandom().sample(OURS, len(OURS)):
        if port not in avoid and is_free(port, host):
            return port
    msg = f"no port between {OURS.start} and {OURS.stop} is free on {host}."
    raise LocalError(msg)


class Ports:
    """The ports of one data folder."""

    def __init__(self, file: Path, report: Callable[[str], None]) -> None:
        """Read the ports from the file, if it exists."""
        self._file = file
        self._report = report
        self._ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}

    def choose(self, name: str, host: str = LOOPBACK, *, preferred: int | None = None) -> int:
        """Return the port kept for a name, else the preferred one, else any free one; keep it.

        Reports it if another program has taken that port.
        """
        wanted = self._ports.get(name, preferred)
        if wanted is not None and is_free(wanted, host):
            port = wanted
        else:
            port = _any_free(host, set(self._ports.values()))
            if wanted is not None:
                self._report(f"port {wanted} is taken: {name} now listens on {port}")
        if self._ports.get(name) != port:
            self._ports[name] = port
            write_private(self._file, json.dumps(self._ports))
        return port
