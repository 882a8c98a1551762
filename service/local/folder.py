"""The data folder: one owner at a time, its passwords, and what an earlier owner left running."""

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

POLL_SECONDS = 0.02


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read; a crash leaves the old one or the new one."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


class DataFolder:
    """A locked data folder. The lock ends with the process, however that ends."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        """Create the folder if need be and lock it. Raises LocalError when that cannot be."""
        self.path = path.resolve()
        self._report = report
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("log", "run"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            msg = f"cannot use {self.path} as data folder ({error.strerror}): set CRM_DATA_DIR."
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
        """Let others use the folder."""
        os.close(self._lock)

    def password(self, name: str) -> str:
        """Return the password of that name; made at first use, safe in URLs and quotes."""
        file = self.path / f"{name}.password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text()

    async def reap(self) -> None:
        """Stop what an earlier owner of this folder left running. Afterwards none of it runs."""
        orphans: list[tuple[str, int, float]] = []
        for file in (self.path / "run").glob("*.pid"):
            with suppress(ValueError):  # half written: its process never came to be
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
