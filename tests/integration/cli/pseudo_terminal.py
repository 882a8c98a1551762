"""Run ``crm`` in a pseudo-terminal of a given width, as a person does."""

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping

ROWS = 40


async def in_terminal(columns: int, env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Return the exit status, and all that the terminal was sent, with plain line ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    process = subprocess.Popen(  # noqa: ASYNC220, S603
        [sys.executable, "-m", "service.cli", *arguments],
        env=dict(env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    output = await asyncio.to_thread(_read_all, ours)
    status = await asyncio.to_thread(process.wait, 30)
    return status, output.decode().replace("\r\n", "\n")


def _read_all(terminal: int) -> bytes:
    read = b""
    try:
        while piece := os.read(terminal, 65_536):
            read += piece
    except OSError:  # how Linux reports that the last process has closed its end
        pass
    os.close(terminal)
    return read
