"""Short runs of `make chaos`: every fault alone on Valkey, some faults overlapping on Redis 7."""

import asyncio
import sys

import pytest

from tests.system.chaos.faults import FAULTS
from tests.system.chaos.servers import REDIS, VALKEY, debian_redis

MINUTES_ON_A_LOADED_MACHINE = 20


async def _run(*options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.system.chaos", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    report = output.decode()
    assert process.returncode == 0, report
    return report


@pytest.mark.timeout(MINUTES_ON_A_LOADED_MACHINE * 60)
async def test_nothing_is_wrong_after_every_fault_alone() -> None:
    report = await _run("--alone", "--seed", "1", "--redis", VALKEY, "--backlog", "4000")
    summary = report.partition("recovery: median")[2]
    assert [name for name in FAULTS if f"  {name}" not in summary] == []


@pytest.mark.timeout(MINUTES_ON_A_LOADED_MACHINE * 60)
async def test_nothing_is_wrong_after_overlapping_faults_on_debians_redis() -> None:
    if not debian_redis():
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    report = await _run("--seconds", "15", "--seed", "2", "--redis", REDIS, "--backlog", "4000")
    assert " + " in report
