"""Ports: chosen once, remembered in the data folder, chosen anew only when taken by others."""

import errno
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path

from service.local import LocalError

LOOPBACK = "127.0.0.1"

OURS = range(15_000, 30_000)
"""Below the range from which systems take ports for outgoing connections: a client that retries
while its server restarts could otherwise be given the server's own port and talk to itself."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether nobody listens there. Raises LocalError when nobody could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            msg = f"cannot listen on {host}, port {port}: {error.strerror}."
            raise LocalError(msg) from None
    return True


def _any_free(host: str, avoid: set[int]) -> int:
    for port in random.sample(OURS, len(OURS)):
        if port not in avoid and is_free(port, host):
            return port
    msg = f"no free port on {host} between {OURS.start} and {OURS.stop}."
    raise LocalError(msg)


class Ports:
    """The ports of one data folder."""

    def __init__(self, file: Path, report: Callable[[str], None]) -> None:
        """Read the ports remembered in that file, if there is one."""
        self._file = file
        self._report = report
        self._ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}

    def choose(self, name: str, host: str = LOOPBACK, *, preferred: int | None = None) -> int:
        """Return the remembered port, else the preferred one, else a free one; remember it.

        Says so when the remembered or preferred one is taken by somebody else.
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
            unfinished = self._file.with_suffix(".new")
            unfinished.write_text(json.dumps(self._ports))
            unfinished.replace(self._file)
        return port
