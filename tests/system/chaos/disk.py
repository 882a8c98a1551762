"""A small disk of its own for a folder, that can be made full and roomy again."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOMY = "16g"
PAGE = 4096


@dataclass(frozen=True)
class Disk:
    """A tmpfs mounted over a folder. Full or not is a matter of its size limit."""

    path: Path

    @classmethod
    def mount(cls, path: Path) -> "Disk | None":
        """Move a folder onto a disk of its own; None where this system does not permit that."""
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
        """Leave no room beyond what is used now. A file that is deleted gives a little back."""
        used = os.statvfs(self.path)
        pages = used.f_blocks - used.f_bfree
        assert _run("mount", "-o", f"remount,size={pages * used.f_frsize + PAGE}", str(self.path))

    def free(self) -> None:
        """Give it room."""
        assert _run("mount", "-o", f"remount,size={ROOMY}", str(self.path))

    def unmount(self) -> None:
        """Take the disk away, whoever still holds files on it."""
        _run("umount", "--lazy", str(self.path))


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


def with_own_mounts(command: list[str]) -> list[str]:
    """Wrap a command so that what it mounts is seen by nobody else and ends with it.

    As an ordinary user this takes a user namespace, which not every system allows: then the
    command is given back as it is.
    """
    unshare = shutil.which("unshare")
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        if unshare and _run(unshare, *options, "true"):
            return [unshare, *options, *command]
    return command
