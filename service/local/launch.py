"""Start a program that stops when its parent dies; as an ordinary user if the parent is root.

This runs as a process of its own, because code between fork and exec is unsafe in a process with
threads. It is run by its path with ``python -I -S``, so it can import the standard library only.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
ORDINARY_USER = 1000


def birth(pid: int) -> str | None:
    """Return when a process was started, to tell it from an earlier one with the same id.

    None if it does not run. A zombie does not run.
    """
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        fields = line.rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    done = subprocess.run(  # noqa: S603
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def _become_ordinary_user() -> None:
    """Enter a user namespace in which root's files belong to an ordinary user, without chown."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        sys.exit(
            "PostgreSQL refuses to run as root, and this system allows no user namespaces "
            f"({os.strerror(ctypes.get_errno())}): run this as an ordinary user, or set "
            "CRM_DATABASE_URL to a server of your own."
        )
    Path("/proc/self/uid_map").write_text(f"{ORDINARY_USER} {user} 1")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{ORDINARY_USER} {group} 1")


def main() -> None:
    """Write a pid file, so that the next start finds an orphan; then become the program."""
    settings, *argv = sys.argv[1:]
    options = json.loads(settings)
    pid_file = Path(options["pidFile"])
    note = {
        "pid": os.getpid(),
        "birth": birth(os.getpid()),
        "signal": options["signal"],
        "grace": options["grace"],
    }
    pid_file.write_text(json.dumps(note))
    if options["unprivileged"] and os.geteuid() == 0:
        _become_ordinary_user()
    if sys.platform == "linux":
        # Changing credentials may clear this, so it comes after that; exec keeps it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, options["signal"])
    if os.getppid() != options["parent"]:  # it died before the signal was set up
        sys.exit(f"the parent of {argv[0]} is gone")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec keeps that
    os.execv(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    main()
