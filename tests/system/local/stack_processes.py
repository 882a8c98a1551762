"""Processes of a local stack: run one, find its children, wait for a state."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.wait import PATIENCE


async def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def processes_in(folder: Path) -> set[int]:
    """Return the processes that work in a data folder: both servers change to a folder below it."""
    found = set()
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.add(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


class Parent:
    """A Python process that runs a local stack, to be killed or asked to stop."""

    def __init__(
        self,
        mode: str,
        folder: Path,
        *,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (sys.executable,),
    ) -> None:
        script = Path(__file__).with_name("parent.py")
        self._output = folder.with_suffix(".out")
        with self._output.open("w") as output:
            self.process = subprocess.Popen(  # noqa: S603
                [*prefix, str(script), mode, str(folder)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=env,
            )

    @property
    def output(self) -> str:
        """Everything that it has printed."""
        return self._output.read_text()

    async def ready(self) -> dict[str, str]:
        """Wait until it runs; return its URLs."""
        await wait_until(
            lambda: "URLS " in self.output or self.process.poll() is not None,
        )
        assert "URLS " in self.output, self.output
        urls = self.output.partition("URLS ")[2].splitlines()[0]
        found: dict[str, str] = json.loads(urls)
        return found

    async def ended(self) -> int:
        """Wait until it has ended; return its exit code."""
        await wait_until(lambda: self.process.poll() is not None)
        return self.process.returncode
