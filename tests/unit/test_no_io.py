"""The unit tests cannot reach a server, even by mistake."""

import socket
import subprocess
import sys

import pytest


def test_no_server_starts(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.fail.Exception, match="does no I/O"):
        request.getfixturevalue("real_servers")


@pytest.mark.parametrize("method", ["bind", "connect", "connect_ex"])
def test_no_socket_opens(method: str) -> None:
    with socket.socket() as opened, pytest.raises(AssertionError, match="does no I/O"):
        getattr(opened, method)(("127.0.0.1", 0))


def test_no_process_starts() -> None:
    with pytest.raises(AssertionError, match="does no I/O"):
        subprocess.run([sys.executable, "--version"], check=False)
