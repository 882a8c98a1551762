"""Keep child processes running: start them in order, restart after a crash, stop in reverse."""

import asyncio
import random
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.local import LocalError
from service.local.child import Child, Log

START_SECONDS = 120.0
"""How long a child may take to be ready. Crash recovery of a database takes a while."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 30.0
"""If a child ran this long before it crashed, the pauses begin again with the shortest."""

POLL_SECONDS = 0.05
READY_SECONDS = 3.0
LOG_CHECK_SECONDS = 30.0


class Supervised:
    """A child that is restarted whenever it ends, until `stop`."""

    def __init__(
        self,
        child: Child,
        data_dir: Path,
        report: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """Start nothing yet. ``changed`` is called when the child has ended or started again."""
        self.child = child
        self.log = Log(data_dir / "log" / f"{child.name}.log")
        self.restarts = 0
        self.restarter: asyncio.Task[None] | None = None
        self._pid_file = data_dir / "run" / f"{child.name}.pid"
        self._report = report
        self._changed = changed
        self._process: Process | None = None
        self._missing = ""

    @property
    def pid(self) -> int | None:
        """The process id; None while it is down."""
        up = self._process is not None and self._process.returncode is None
        return self._process.pid if up and self._process else None

    async def start(self) -> None:
        """Start the child, wait until it is ready, and restart it from then on.

        Raises LocalError if it does not become ready.
        """
        process = self._process = await self.log.spawn(self.child, self._pid_file)
        try:
            async with asyncio.timeout(START_SECONDS):
                problem = await self._until_ready(process)
        except TimeoutError:
            problem = f"was not ready within {START_SECONDS:.0f} s ({self._missing})"
        if problem:
            msg = f"{self.child.name} {problem}. {self._log_tail()}"
            raise LocalError(msg)
        self._report(f"{self.child.name:<9} ready   {self.child.where}")
        self.restarter = asyncio.create_task(self._restart_whenever_it_ends(process))

    async def stop(self, *, hurry: bool) -> None:
        """Stop the child; kill it if that takes longer than its grace. Returns when it is gone."""
        if self.restarter:
            self.restarter.cancel()
            await asyncio.wait([self.restarter])
        if self.pid and self._process:
            self.send(self.child.hurry_signal if hurry else self.child.stop_signal)
            try:
                await asyncio.wait_for(self._process.wait(), self.child.grace)
            except TimeoutError:
                self._report(
                    f"{self.child.name} did not stop within {self.child.grace:.0f} s: killed"
                )
                self.send(signal.SIGKILL)
                await self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child if it runs."""
        if self.pid and self._process:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _until_ready(self, process: Process) -> str | None:
        """Wait until the child is ready. Return how it ended if it ends first, else None."""
        while process.returncode is None:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await self.child.ready()
            except Exception as error:  # noqa: BLE001 any error means "not ready yet"
                self._missing = repr(error)
            else:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return _how_it_ended(process.returncode)

    async def _restart_whenever_it_ends(self, process: Process) -> None:
        failures = 0
        since = time.monotonic()
        while True:
            ended = _how_it_ended(await process.wait())
            self._changed()
            if time.monotonic() - since > STEADY_SECONDS:
                failures = 0
            # Jitter, so that children that crashed together do not all restart at once.
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
            pause = random.uniform(longest / 2, longest)
            failures += 1
            self._report(
                f"{self.child.name} {ended}; restarting in {pause:.1f} s. {self._log_tail()}"
            )
            await asyncio.sleep(pause)
            since = time.monotonic()
            process = await self._respawn()
            self.restarts += 1
            self._changed()
            if await self._until_ready(process) is None:
                self._report(f"{self.child.name:<9} is back {self.child.where}")

    async def _respawn(self) -> Process:
        while True:
            try:
                self._process = await self.log.spawn(self.child, self._pid_file)
            except OSError as error:  # out of processes, memory or files: this may pass
                self._report(f"{self.child.name} cannot be started ({error}); trying again")
                await asyncio.sleep(LONGEST_PAUSE)
            else:
                return self._process

    def _log_tail(self) -> str:
        return f"The end of its log, {self.log.path}:\n{self.log.tail()}"


class Supervisor:
    """The children of one data folder. ``changed`` is called when one has ended or started."""

    def __init__(
        self,
        data_dir: Path,
        report: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to start children in a folder that has the subfolders ``log`` and ``run``."""
        self.children: dict[str, Supervised] = {}
        self.changed = changed
        self._data_dir = data_dir
        self._report = report
        self._hurry = False
        self._logs: asyncio.Task[None] | None = None

    async def start(self, child: Child) -> Supervised:
        """Start a child, and wait until it is ready. Raises LocalError if it cannot be started."""
        supervised = Supervised(child, self._data_dir, self._report, self._part_changed)
        self.children[child.name] = supervised
        await supervised.start()
        if self._logs is None:
            self._logs = asyncio.create_task(self._bound_logs())
        return supervised

    def _part_changed(self) -> None:
        self.changed()

    async def watch(self) -> None:
        """Wait for ever. Raises if supervision itself has failed."""
        restarters = [
            supervised.restarter for supervised in self.children.values() if supervised.restarter
        ]
        await asyncio.gather(*restarters, *filter(None, [self._logs]))

    async def stop(self) -> None:
        """Stop all children, the latest first. Returns when none is left."""
        if self._logs:
            self._logs.cancel()
        for supervised in reversed(self.children.values()):
            await supervised.stop(hurry=self._hurry)

    def hurry(self) -> None:
        """Speed up a stop that is under way: do not wait any longer for work to finish."""
        self._hurry = True
        for supervised in self.children.values():
            if supervised.restarter is None or supervised.restarter.done():
                supervised.send(supervised.child.hurry_signal)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for supervised in self.children.values():
                supervised.log.bound()


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
