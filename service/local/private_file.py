"""Files that only their owner may read: they hold passwords, or what servers log."""

import os
from io import BufferedWriter
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read; a crash leaves the old one or the new one."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def append_private(path: Path) -> BufferedWriter:
    """Open a file to append to, and close it to others. They may read one of an earlier release."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)
    return open(descriptor, "ab")  # noqa: PTH123  the caller closes it
