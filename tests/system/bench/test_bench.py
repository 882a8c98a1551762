"""`make bench` runs to its end: every contender ends with the totals of the model."""

import asyncio
import os
import sys

import pytest

from tests.bench.contenders import PEERS

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="Bytewax is for Pythons up to 3.12"),
]


async def test_every_contender_is_measured_and_right() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.writes", "--also"),
        *("--rounds", "1", "--events", "2000", "--customers", "1500"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("CRM_")},
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    rows = [line.split(" | ")[0] for line in printed.decode().splitlines() if line.startswith("| ")]
    assert rows[1:] == [f"| {name}" for name in ("ours", *(it.name for it in PEERS), "ours × 2")]
