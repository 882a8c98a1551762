"""Start real ``crm`` processes, ask them whether they are ready, kill them; end them all."""

import contextlib
import os
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx

from service.db.grants import WEB, WORKER
from service.local.ports import OURS, is_free
from tests.paths import ROOT
from tests.servers import Servers
from tests.wait import until

HOST = "127.0.0.1"
PROBE_SECONDS = 15.0
# httpx would load the system's certificates for each client: 20 ms of CPU time, every few
# milliseconds while a process starts. A probe uses no TLS.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Each test process starts at a place of its own, and takes no port twice.
_ports = cycle(OURS)
for _ in range(random.SystemRandom().randrange(len(OURS))):
    next(_ports)


def free_port() -> int:
    """Return a port that nobody listens on."""
    return next(port for port in _ports if is_free(port, HOST))


def environment(servers: Servers, **settings: object) -> dict[str, str]:
    """Return an environment with the database's URL for workers and commands.

    Settings are ``CRM_*`` names in lower case; None leaves one out.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    values: dict[str, object] = {
        "database_url": servers.url_of(WORKER),
        "redis_url": servers.service_redis_url or servers.redis_url,
        "reclaim_idle_seconds": 0.5,
        "sweep_seconds": 0.2,
        "drain_seconds": 10,
        **settings,
    }
    variables = {
        f"CRM_{name.upper()}": str(value) for name, value in values.items() if value is not None
    }
    return {**env, **variables}


class Process:
    """A running ``crm`` command with its output in a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: dict[str, str],
        log: Path,
        port: int,
        code: Path = ROOT,
    ) -> None:
        self.port = port
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments],
                env=env,
                cwd=code,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """Everything it has printed and logged so far."""
        return self._log.read_text(errors="replace")

    async def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """GET a JSON document from it; status 0 while nobody listens."""
        try:
            async with httpx.AsyncClient(
                timeout=PROBE_SECONDS, trust_env=False, verify=NO_CERTIFICATES
            ) as client:
                answer = await client.get(f"http://{HOST}:{self.port}{path}")
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    async def ready(self) -> None:
        """Wait until it answers that it is ready; fail at once when it has ended."""

        async def is_ready() -> bool:
            assert self._process.poll() is None, self.output
            status, _ = await self.ask("/readyz")
            return status == httpx.codes.OK

        await until(is_ready, every=0.05)

    def send(self, number: signal.Signals) -> None:
        """Send a signal. SIGSTOP makes it hang, SIGCONT makes it continue."""
        if self._process.poll() is None:
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it as a crash would; return when it is gone."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def terminate(self) -> int:
        """Ask it to stop; return its exit status."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended; return its exit status, negative for a signal."""

        async def has_ended() -> bool:
            return self._process.poll() is not None

        await until(has_ended)
        return self._process.returncode


class Processes:
    """Starts processes for one test, from the code of one release."""

    def __init__(self, servers: Servers, folder: Path, code: Path = ROOT) -> None:
        self._servers = servers
        self._folder = folder
        self._code = code
        self._started: list[Process] = []

    def start(self, arguments: Sequence[str], port: int, **settings: object) -> Process:
        """Start ``python`` with arguments; do not wait until it is ready."""
        log = self._folder / f"{len(self._started)}.log"
        env = environment(self._servers, data_dir=self._folder, **settings)
        process = Process(arguments, env, log, port, self._code)
        self._started.append(process)
        return process

    async def worker(self, **settings: object) -> Process:
        """Start ``crm worker``; return when it is ready."""
        process = self.start_worker(**settings)
        await process.ready()
        return process

    def start_worker(self, **settings: object) -> Process:
        """Start ``crm worker``; do not wait until it is ready."""
        port = free_port()
        arguments = ["-m", "service.cli", "worker"]
        return self.start(arguments, port, worker_port=port, **settings)

    async def web(self, **settings: object) -> Process:
        """Start ``crm web``; return when it is ready."""
        process = self.start_web(**settings)
        await process.ready()
        return process

    def start_web(self, **settings: object) -> Process:
        """Start ``crm web``; do not wait until it is ready."""
        port = free_port()
        values: dict[str, object] = {"database_url": self._servers.url_of(WEB), **settings}
        return self.start(["-m", "service.cli", "web"], port, http_port=port, **values)

    async def end(self) -> None:
        """Kill the processes that still run."""
        for process in self._started:
            process.send(signal.SIGCONT)
            await process.kill()


@contextlib.asynccontextmanager
async def processes(servers: Servers, folder: Path, code: Path = ROOT) -> AsyncIterator[Processes]:
    """Yield something to start processes with; afterwards none is left."""
    started = Processes(servers, folder, code)
    try:
        yield started
    finally:
        await started.end()
