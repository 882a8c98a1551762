"""Run ``crm`` commands, and wait for their end."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.processes import environment
from tests.servers import Servers

SECONDS = 60


class Ended(NamedTuple):
    """A command that has ended: its exit status and output."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


class Crm:
    """Runs ``crm`` commands on the servers of the test run."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._folder = folder

    async def __call__(self, *arguments: str, **settings: object) -> Ended:
        values = {"data_dir": self._folder, **settings}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service.cli",
            *arguments,
            env=environment(self._servers, **values),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def crm(real_servers: Servers, tmp_path: Path) -> Crm:
    """Return a runner of ``crm`` commands."""
    return Crm(real_servers, tmp_path)
