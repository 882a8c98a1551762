"""Describe and start one child process, and write its log."""

import json
import os
import shutil
import signal
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from service.local.private_file import append_private

LOG_BYTES = 10_000_000
"""A larger log is moved to ``<name>.log.1``, which replaces the one moved before."""

TAIL_BYTES = 4_000


@dataclass(frozen=True)
class Child:
    """A program to run.

    ``ready`` raises as long as the child is not ready; its error says what is missing. ``where`` is
    its address, for people.
    ``stop_signal`` asks for an orderly stop within ``grace`` seconds, ``hurry_signal`` for a quick
    one. A child that outlived its parent gets ``orphan_grace`` seconds to stop at the next start.
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[None]]
    where: str
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stop_signal: signal.Signals = signal.SIGTERM
    hurry_signal: signal.Signals = signal.SIGKILL
    grace: float = 10.0
    orphan_grace: float = 5.0
    unprivileged: bool = False


def launcher(
    argv: Sequence[str],
    pid_file: Path,
    *,
    stop_signal: signal.Signals,
    orphan_grace: float,
    unprivileged: bool,
) -> list[str]:
    """Return a command that runs ``argv`` and sends it ``stop_signal`` if this process dies."""
    options = {
        "pidFile": str(pid_file),
        "parent": os.getpid(),
        "signal": int(stop_signal),
        "grace": orphan_grace,
        "unprivileged": unprivileged,
    }
    launch = str(Path(__file__).with_name("launch.py"))
    return [sys.executable, "-I", "-S", launch, json.dumps(options), *argv]


class Log:
    """A child's log file, bounded in size."""

    def __init__(self, path: Path) -> None:
        """Set the path. No file is created yet."""
        self.path = path
        self._start = 0

    def bound(self) -> None:
        """Move the content away if it is large. The writer appends, so it can go on writing."""
        if self.path.exists() and self.path.stat().st_size > LOG_BYTES:
            with suppress(OSError):  # on a full disk, free space matters more than the copy
                shutil.copy(self.path, self.path.with_suffix(".log.1"))
            os.truncate(self.path, 0)

    def tail(self, lines: int = 8) -> str:
        """Return the last lines of the current run, indented."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._start if self._start <= size else 0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    async def spawn(self, child: Child, pid_file: Path) -> Process:
        """Start the child with this log as its output, out of reach of the terminal's Ctrl-C."""
        self.bound()
        with append_private(self.path) as file:
            self._start = file.tell()
            return await create_subprocess_exec(
                *launcher(
                    child.argv,
                    pid_file,
                    stop_signal=child.stop_signal,
                    orphan_grace=child.orphan_grace,
                    unprivileged=child.unprivileged,
                ),
                stdin=DEVNULL,
                stdout=file,
                stderr=STDOUT,
                env=child.env,
                start_new_session=True,
            )
