"""The programs of `deploy/integrating.md`, as files that can be run."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import redis_users
from tests.paths import ROOT
from tests.processes import HOST
from tests.servers import Servers
from tests.system.clients.line import Line

PAGE = (ROOT / "deploy/integrating.md").read_text()
PROGRAMS: Mapping[str, str] = {
    name: text
    for text, name in re.findall(
        r"^```\w+\n((?:#|//) (\S+): .*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
}
NODE_MODULES = ROOT / ".venv/node/node_modules"
NPM_SECONDS = 60


def _installed_node_modules() -> Path:
    """Install what the lock file names, unless that was done before; return the folder."""
    lock = Path(__file__).with_name("package-lock.json")
    folder = NODE_MODULES.parent
    copied = folder / lock.name
    if NODE_MODULES.is_dir() and copied.read_bytes() == lock.read_bytes():
        return NODE_MODULES
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(lock.with_name("package.json"), folder)
    shutil.copy(lock, copied)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=NPM_SECONDS,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"npm cannot install node-redis: {done.stderr.strip()[-200:]}")
    return NODE_MODULES


class Program:
    """A running program of the page."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def lines(self) -> list[str]:
        """Everything printed so far, including errors."""
        return self._log.read_text(errors="replace").splitlines()

    async def kill(self) -> None:
        """End the program like a crash."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Page:
    """Runs the page's programs in one folder, so that each finds what it stored before."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.folder = folder
        """Any file in this folder can be run like a program of the page."""
        self._url = servers.redis_url
        self._runs = 0
        for file, text in PROGRAMS.items():
            (folder / file).write_text(text)

    @contextlib.asynccontextmanager
    async def running(
        self, name: str, *, lose: bytes = b"", hold: bytes = b""
    ) -> AsyncIterator[tuple[Program, Line]]:
        """Run a program until the block ends, over a line that loses or holds a request."""
        address = urlsplit(self._url)
        line = Line(address.port or 6379, lose=lose, hold=hold)
        self._runs += 1
        log = self.folder / f"{self._runs}.log"
        async with line.listening() as port:
            user = redis_users.PUBLISHER if "publish" in name else redis_users.SUBSCRIBER
            url = redis_users.url_of(user, address._replace(netloc=f"{HOST}:{port}").geturl())
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *self._command(self.folder / name),
                    env={**os.environ, "CRM_REDIS_URL": url},
                    cwd=self.folder,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                )
            program = Program(process, log)
            try:
                yield program, line
            finally:
                await program.kill()

    def _command(self, file: Path) -> list[str]:
        match file.suffix:
            case ".py":
                return [sys.executable, str(file)]
            case ".sh":
                if not shutil.which("redis-cli"):
                    pytest.skip("redis-cli is not installed (apt-get install redis-tools)")
                return ["sh", str(file)]
            case _:
                if not (shutil.which("node") and shutil.which("npm")):
                    pytest.skip("Node.js is not installed (apt-get install nodejs npm)")
                modules = self.folder / NODE_MODULES.name
                if not modules.exists():
                    modules.symlink_to(_installed_node_modules())
                return ["node", str(file)]


@pytest.fixture
def page(real_servers: Servers, tmp_path: Path) -> Page:
    """Return the page's programs, which use the servers of this run."""
    return Page(real_servers, tmp_path)
