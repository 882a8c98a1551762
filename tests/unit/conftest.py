"""Keeps the unit tests fast: none has servers, opens a socket or starts a process."""

import socket
import subprocess
from typing import NoReturn

import pytest

_REFUSAL = "a unit test does no I/O: move it to tests/integration or tests/system"


def _refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError(_REFUSAL)


@pytest.fixture(autouse=True)
def _no_io(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, method, _refuse)
    monkeypatch.setattr(subprocess, "Popen", _refuse)


@pytest.fixture(scope="session")
def real_servers() -> NoReturn:
    pytest.fail(_REFUSAL)
