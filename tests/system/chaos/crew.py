"""The service's processes; each is started again when it has ended, as an orchestrator does."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from consumers.tasks import end
from tests.processes import Process, Processes, free_port
from tests.servers import Servers
from tests.wait import until

READY_SECONDS = 90.0
CHANGES_KEPT = 1000
"""Few, so that the out-stream is trimmed, and a group that never reads holds that up."""
_POLL_SECONDS = 0.1


class Crew:
    """Workers and web processes. It counts the deaths that no fault caused."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        """Remember the URLs that the processes use."""
        self.workers: list[Process] = []
        self.webs: list[Process] = []
        self._processes = Processes(Servers(database_url, redis_url, None, None), folder)
        self._doomed: set[int] = set()
        self._ended: dict[int, tuple[str, int]] = {}
        self._resting = False
        self._options: tuple[str, ...] = ()
        """The options of the workers that are started next."""

    @contextlib.asynccontextmanager
    async def running(self, workers: int, webs: int) -> AsyncIterator[None]:
        """Run that many workers and web processes during the block."""
        self.workers = [self._start_worker() for _ in range(workers)]
        self.webs = [self._start_web() for _ in range(webs)]
        keeper = asyncio.create_task(self._keep())
        try:
            await self.ready()
            yield
            assert not keeper.done(), "the crew's keeper has died"
        finally:
            await end([keeper])
            await self._processes.end()

    def _start_worker(self, *options: str) -> Process:
        port = free_port()
        return self._processes.start(
            ["-m", "tests.system.chaos.points", *(options or self._options)],
            port,
            worker_port=port,
            reclaim_idle_seconds=2,
            changes_keep_entries=CHANGES_KEPT,
        )

    def _start_web(self) -> Process:
        port = free_port()
        return self._processes.start(
            ["-m", "service.cli", "web"], port, http_port=port, rate_limit_burst=1_000_000
        )

    async def ready(self) -> None:
        """Wait until all processes answer that they are ready."""

        async def are_ready() -> bool:
            answers = [await process.ask("/readyz") for process in (*self.workers, *self.webs)]
            return all(status == 200 for status, _ in answers)

        await until(are_ready, READY_SECONDS)

    async def _keep(self) -> None:
        while True:
            for place, process in enumerate(self.workers):
                if not self._resting and self._has_ended(process, "worker"):
                    self.workers[place] = self._start_worker()
            for place, process in enumerate(self.webs):
                if self._has_ended(process, "web"):
                    self.webs[place] = self._start_web()
            await asyncio.sleep(_POLL_SECONDS)

    def _has_ended(self, process: Process, kind: str) -> bool:
        if process.status is None:
            return False
        self._ended[process.pid] = kind, process.status
        return True

    def status_of(self, pid: int) -> int | None:
        """Return the exit status of a process that was replaced; None if it was not."""
        return self._ended[pid][1] if pid in self._ended else None

    @property
    def unasked(self) -> Counter[str]:
        """Processes that ended although no fault ended them, by kind and exit status."""
        return Counter(
            f"{kind} ended with {status}"
            for pid, (kind, status) in self._ended.items()
            if pid not in self._doomed
        )

    def meant(self, pid: int) -> None:
        """Record that a process is supposed to end."""
        self._doomed.add(pid)

    async def terminate(self, process: Process) -> int:
        """Ask a worker to stop; return its exit status. Another worker replaces it.

        A worker that has logged nothing yet is still being loaded: it has read nothing, and the
        signal ends Python itself. So this waits for its first line.
        """

        async def has_begun() -> bool:
            return bool(process.output) or process.status is not None

        self._doomed.add(process.pid)
        await until(has_begun, READY_SECONDS)
        return await process.terminate()

    @contextlib.asynccontextmanager
    async def without_workers(self) -> AsyncIterator[None]:
        """Run no worker during the block."""
        self._resting = True
        await asyncio.gather(*(self.terminate(worker) for worker in self.workers))
        try:
            yield
        finally:
            self._resting = False

    @contextlib.asynccontextmanager
    async def limited(self, memory: int) -> AsyncIterator[None]:
        """Run all workers with so many bytes of addresses during the block."""
        self._options = ("--memory", str(memory))
        try:
            async with self.without_workers():
                pass
            await self.ready()
            yield
        finally:
            self._options = ()
            async with self.without_workers():
                pass
            await self.ready()

    @contextlib.asynccontextmanager
    async def more(self, count: int, *options: str) -> AsyncIterator[list[Process]]:
        """Run more workers during the block; stop them cleanly afterwards."""
        started = [self._start_worker(*options) for _ in range(count)]
        try:
            await asyncio.gather(*(_until_ready(process) for process in started))
            yield started
        finally:
            for process in started:
                process.send(signal.SIGTERM)
            for process in started:
                await process.ended()

    def memory(self) -> int:
        """Return the resident memory of the largest worker, in bytes."""
        sizes = [0]
        for worker in self.workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes.append(psutil.Process(worker.pid).memory_info().rss)
        return max(sizes)


async def _until_ready(process: Process) -> None:
    async def is_ready() -> bool:
        assert process.status is None, process.output
        status, _ = await process.ask("/readyz")
        return status == 200

    await until(is_ready, READY_SECONDS)
