"""Disks that are full or slow."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.system.chaos.skipped import Skipped

ROOMY = "16g"
_ATTEMPTS = 50
PAGE = 4096


@dataclass(frozen=True)
class Disk:
    """A tmpfs mounted over a folder. Its size limit decides whether it is full."""

    path: Path

    @classmethod
    def mount(cls, path: Path) -> "Disk | None":
        """Move a folder onto a disk of its own; None if this system does not permit it."""
        aside = path.with_name(f"{path.name}.aside")
        path.rename(aside)
        path.mkdir(mode=0o700)
        done = _run("mount", "-t", "tmpfs", "-o", f"size={ROOMY},mode=700", "tmpfs", str(path))
        if not done:
            path.rmdir()
            aside.rename(path)
            return None
        shutil.copytree(aside, path, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(aside)
        return cls(path)

    def fill(self) -> None:
        """Leave no free space. Deleting a file frees a little."""
        for _ in range(_ATTEMPTS):  # a disk that grows meanwhile cannot be made that small
            used = os.statvfs(self.path)
            size = (used.f_blocks - used.f_bfree) * used.f_frsize + PAGE
            if _run("mount", "-o", f"remount,size={size}", str(self.path)):
                return
        msg = f"{self.path} grows too fast to be filled"
        raise OSError(msg)

    def free(self) -> None:
        """Free the disk."""
        assert _run("mount", "-o", f"remount,size={ROOMY}", str(self.path))

    def unmount(self) -> None:
        """Unmount the disk, even if files on it are open."""
        _run("umount", "--lazy", str(self.path))


@contextlib.asynccontextmanager
async def slow_fsync(pid: int, seconds: float) -> AsyncIterator[None]:
    """Make each fsync of a process and its children begin that many seconds late."""
    strace = shutil.which("strace")
    if strace is None:
        raise Skipped("strace is not installed")
    parent = psutil.Process(pid)
    family = [parent.pid, *(child.pid for child in parent.children(recursive=True))]
    tracer = await asyncio.create_subprocess_exec(
        *(strace, "--follow-forks", "--output=/dev/null", "--trace=fsync,fdatasync"),
        f"--inject=fsync,fdatasync:delay_enter={seconds:g}s",
        *(f"--attach={each}" for each in family),
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stderr
    try:
        # It says so for each process that it has attached to, or why it may not.
        for _ in family:
            if b"attached" not in (line := await tracer.stderr.readline()):
                msg = f"strace may not do this here: {line.decode().strip()}"
                raise Skipped(msg)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGTERM)
        await tracer.communicate()


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


def with_own_mounts(command: list[str]) -> list[str]:
    """Wrap a command so that its mounts are visible to itself alone and end with it.

    An ordinary user needs a user namespace for that. Where the system does not allow one, the
    command is returned unchanged.
    """
    unshare = shutil.which("unshare")
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        if unshare and _run(unshare, *options, "true"):
            return [unshare, *options, *command]
    return command
