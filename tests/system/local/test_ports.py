"""The choice of ports."""

import random
from pathlib import Path

from service.local.ports import Ports


def test_processes_with_the_same_seed_choose_different_ports(tmp_path: Path) -> None:
    """A test runner seeds its workers alike; their servers must not meet on one port."""
    state = random.getstate()
    try:
        chosen = []
        for process in ("first", "second", "third"):
            random.seed(1)
            ports = Ports(tmp_path / process, report=print)
            chosen.append((ports.choose("postgres"), ports.choose("valkey")))
    finally:
        random.setstate(state)

    assert len(set(chosen)) == 3
