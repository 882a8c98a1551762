"""The memory that this process and its children may use."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container on Linux, in bytes; ``max`` if there is none."""


def memory_limit(cgroup: Path = _CGROUP) -> int:
    """Return the machine's memory in bytes, or the container's limit if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(cgroup.read_text()))
    except (OSError, ValueError):
        return machine
