"""A small disk for one folder, which can be filled up and freed."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOMY = "16g"
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
        used = os.statvfs(self.path)
        pages = used.f_blocks - used.f_bfree
        assert _run("mount", "-o", f"remount,size={pages * used.f_frsize + PAGE}", str(self.path))

    def free(self) -> None:
        """Free the disk."""
        assert _run("mount", "-o", f"remount,size={ROOMY}", str(self.path))

    def unmount(self) -> None:
        """Unmount the disk, even if files on it are open."""
        _run("umount", "--lazy", str(self.path))


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
