"""The data folder: its lock, its passwords, and the children that an earlier owner left running."""

import asyncio
import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.local import LocalError
from service.local.launch import birth
from service.local.ports import Ports
from service.local.private_file import write_private

POLL_SECONDS = 0.02


class DataFolder:
    """A locked data folder. The lock ends with this process, however the process ends."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        """Create the folder if it does not exist, and lock it. Raises LocalError if it cannot."""
        self.path = path.resolve()
        self._report = report
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("log", "run"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
                (self.path / name).chmod(0o700)  # also what was made with another umask
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            msg = (
                f"cannot use {self.path} as data folder ({error.strerror}): "
                "set CRM_DATA_DIR to another folder."
            )
            raise LocalError(msg) from None
        try:
            self._take()
        except BaseException:
            os.close(self._lock)
            raise
        self.ports = Ports(self.path / "ports.json", report)

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._lock, 20, 0).decode() or "unknown"
            msg = (
                f"the data folder {self.path} is in use by process {owner}: stop that one, "
                "or set CRM_DATA_DIR to another folder."
            )
            raise LocalError(msg) from None
        owner_id = self.path.stat().st_uid
        if owner_id != os.geteuid():
            msg = (
                f"the data folder {self.path} belongs to user {owner_id}, and this is user "
                f"{os.geteuid()}: run as its owner, or set CRM_DATA_DIR to another folder."
            )
            raise LocalError(msg)
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def password(self, name: str) -> str:
        """Return a password, created at first use. It is safe in URLs and in SQL literals."""
        file = self.path / f"{name}.password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text()

    async def reap(self) -> None:
        """Stop the children that an earlier owner of this folder left, and wait for their end."""
        orphans: list[tuple[str, int, float]] = []
        for file in (self.path / "run").glob("*.pid"):
            with suppress(ValueError):  # half written: its process never started
                note = json.loads(file.read_text())
                if note["birth"] == birth(note["pid"]):
                    self._report(f"stopping {file.stem} of an earlier run (process {note['pid']})")
                    with suppress(ProcessLookupError):
                        os.kill(note["pid"], note["signal"])
                    orphans.append((note["birth"], note["pid"], time.monotonic() + note["grace"]))
            file.unlink()
        for born, pid, deadline in orphans:
            while birth(pid) == born:
                if time.monotonic() > deadline:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(POLL_SECONDS)
