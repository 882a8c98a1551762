"""Keep child processes running: start in order, restart after a crash, stop in reverse order."""

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
"""Crash recovery of a database may take a while."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 30.0
"""Who ran this long before crashing is restarted as if it were the first time."""

POLL_SECONDS = 0.05
READY_SECONDS = 3.0
LOG_CHECK_SECONDS = 30.0


class Supervised:
    """A child that is kept running until ``stop``."""

    def __init__(
        self,
        child: Child,
        data_dir: Path,
        report: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """Prepare; ``changed`` is called whenever its process went or came."""
        self.child = child
        self.log = Log(data_dir / "log" / f"{child.name}.log")
        self.restarts = 0
        self.keeper: asyncio.Task[None] | None = None
        self._pid_file = data_dir / "run" / f"{child.name}.pid"
        self._report = report
        self._changed = changed
        self._process: Process | None = None
        self._missing = ""

    @property
    def pid(self) -> int | None:
        """Process id; None while it is down."""
        up = self._process is not None and self._process.returncode is None
        return self._process.pid if up and self._process else None

    async def start(self) -> None:
        """Start it, wait until it is ready and keep it so. Raises LocalError if it never is."""
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
        self.keeper = asyncio.create_task(self._keep(process))

    async def stop(self, *, hurry: bool) -> None:
        """Stop it, by force when it does not within its grace. Afterwards it is gone."""
        if self.keeper:
            self.keeper.cancel()
            await asyncio.wait([self.keeper])
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
        """Send it a signal, if it is up."""
        if self.pid and self._process:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _until_ready(self, process: Process) -> str | None:
        """Wait until it is ready or dead; in the latter case say how it died."""
        while process.returncode is None:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await self.child.ready()
            except Exception as error:  # noqa: BLE001 whatever it is means "not yet"
                self._missing = repr(error)
            else:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return _how_it_ended(process.returncode)

    async def _keep(self, process: Process) -> None:
        failures = 0
        since = time.monotonic()
        while True:
            ended = _how_it_ended(await process.wait())
            self._changed()
            if time.monotonic() - since > STEADY_SECONDS:
                failures = 0
            # Jitter, so that children felled by one cause do not come back in step.
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
            except OSError as error:  # out of processes, memory or files: that may pass
                self._report(f"{self.child.name} cannot be started ({error}); trying again")
                await asyncio.sleep(LONGEST_PAUSE)
            else:
                return self._process

    def _log_tail(self) -> str:
        return f"Its log, {self.log.path}, ends:\n{self.log.tail()}"


class Supervisor:
    """The children of one data folder. ``changed`` is called whenever one of them went or came."""

    def __init__(
        self,
        data_dir: Path,
        report: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a folder that has ``log`` and ``run`` in it."""
        self.children: dict[str, Supervised] = {}
        self.changed = changed
        self._data_dir = data_dir
        self._report = report
        self._hurry = False
        self._logs: asyncio.Task[None] | None = None

    async def start(self, child: Child) -> Supervised:
        """Start a child; returns when it is ready. Raises LocalError when it cannot be."""
        kept = Supervised(child, self._data_dir, self._report, self._part_changed)
        self.children[child.name] = kept
        await kept.start()
        if self._logs is None:
            self._logs = asyncio.create_task(self._bound_logs())
        return kept

    def _part_changed(self) -> None:
        self.changed()

    async def watch(self) -> None:
        """Wait for ever; raises when supervision itself has failed."""
        keepers = [kept.keeper for kept in self.children.values() if kept.keeper]
        await asyncio.gather(*keepers, *filter(None, [self._logs]))

    async def stop(self) -> None:
        """Stop all children, the latest started first. Afterwards none is left."""
        if self._logs:
            self._logs.cancel()
        for kept in reversed(self.children.values()):
            await kept.stop(hurry=self._hurry)

    def hurry(self) -> None:
        """Shorten a stop that is under way: no more waiting for work to finish."""
        self._hurry = True
        for kept in self.children.values():
            if kept.keeper is None or kept.keeper.done():
                kept.send(kept.child.hurry_signal)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for kept in self.children.values():
                kept.log.bound()


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
