"""`crm worker` with points at which it dies or hangs: ``python -m tests.system.chaos.points``.

The points wrap functions of the service from outside; the product knows nothing of them. To arm a
point, put a file named ``<action>.<point>`` into the folder that ``CHAOS_POINTS`` names. The first
worker that reaches it removes the file, writes its process id to ``<point>``, and is killed or
stopped.
``--clock OFFSET`` runs the worker under libfaketime. ``--memory BYTES`` limits its data.
"""

import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

FOLDER = "CHAOS_POINTS"
ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

BEFORE_COMMIT = "before-commit"
BEFORE_ACK = "between-commit-and-ack"
BEFORE_ADD = "between-numbering-and-xadd"
BEFORE_MARK = "between-xadd-and-mark"
BEFORE_SWEPT = "before-the-sweeps-commit"
BEFORE_NOTE = "between-delivery-and-note"
KILL_POINTS = (BEFORE_COMMIT, BEFORE_ACK, BEFORE_ADD, BEFORE_MARK, BEFORE_SWEPT, BEFORE_NOTE)

_FAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
Work = Callable[..., Awaitable[Any]]


def faketime() -> Path | None:
    """Return the library that sets a process's clock wrong; None if it is not installed."""
    root = Path("/")
    found = [path for pattern in _FAKETIME for path in root.glob(pattern.lstrip("/"))]
    return found[0] if found else None


class Points:
    """Arms the points of a run, from outside the workers."""

    def __init__(self, folder: Path) -> None:
        """Use this folder; workers that are started from now on look into it."""
        folder.mkdir()
        self._folder = folder
        os.environ[FOLDER] = str(folder)

    def arm(self, action: str, point: str) -> None:
        """Kill or stop the next worker that reaches the point."""
        (self._folder / point).unlink(missing_ok=True)
        (self._folder / f"{action}.{point}").touch()

    def disarm(self) -> None:
        """Disarm all points."""
        for action in ACTIONS:
            for file in self._folder.glob(f"{action}.*"):
                file.unlink(missing_ok=True)

    def reached(self, point: str) -> int | None:
        """Return the process id of the worker that reached the point; None while there is none."""
        try:
            return int((self._folder / point).read_text())
        except (FileNotFoundError, ValueError):
            return None


def _reach(point: str) -> None:
    folder = Path(os.environ[FOLDER])
    for action, number in ACTIONS.items():
        try:
            (folder / f"{action}.{point}").unlink()
        except FileNotFoundError:
            continue
        (folder / point).write_text(str(os.getpid()))
        os.kill(os.getpid(), number)


def _around(
    owner: Any, name: str, *, before: str | None = None, after: str | None = None, when: Any = None
) -> None:
    """Wrap a function; ``when`` decides by its result or, before the call, by its arguments."""
    inner: Work = getattr(owner, name)

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        if before and (when is None or when(arguments)):
            _reach(before)
        result = await inner(*arguments, **named)
        if after and (when is None or when(result)):
            _reach(after)
        return result

    setattr(owner, name, wrapped)


def _install() -> None:
    from consumers import applier, chores  # noqa: PLC0415
    from consumers.endpoint_sending import EndpointSending  # noqa: PLC0415
    from consumers.relay import _Leading  # noqa: PLC0415

    _around(applier, "ingest", after=BEFORE_COMMIT)
    _around(applier, "in_transaction", after=BEFORE_ACK)
    _around(chores, "sweep", after=BEFORE_SWEPT, when=lambda swept: swept.moved)
    _around(EndpointSending, "note", before=BEFORE_NOTE)
    _around(_Leading, "_add", before=BEFORE_ADD, when=lambda given: given[1])
    inner = _Leading._add

    async def add(self: _Leading, events: Any) -> Any:
        last = await inner(self, events)
        if events and last == self._expected:
            _reach(BEFORE_MARK)
        return last

    _Leading._add = add  # type: ignore[method-assign]


def main() -> None:
    """Run ``crm worker``."""
    option, value = sys.argv[1:] or ("", "")
    if option == "--memory":
        # A container counts memory in use. The allocator reserves 64 MiB of addresses for each
        # thread, which nobody uses: they count as addresses, but not as data.
        resource.setrlimit(resource.RLIMIT_DATA, (int(value), int(value)))
    if option == "--clock":
        faked = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME": value,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        command = [sys.executable, "-m", "tests.system.chaos.points"]
        os.execve(command[0], command, os.environ | faked)  # noqa: S606
    from service.cli.main import main as crm  # noqa: PLC0415

    _install()
    sys.argv = ["crm", "worker"]
    crm()


if __name__ == "__main__":
    main()
