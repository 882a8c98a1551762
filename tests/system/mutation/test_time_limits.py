"""A test whose time is up ends, and does not stop the tests after it."""

import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

_HANGING = """
import asyncio
import time

import pytest
from hypothesis import given, strategies as st

limited = pytest.mark.timeout(0.5)

examples = []
cleaned_up = asyncio.Event()

@limited
@given(number=st.integers())
async def test_it_hangs(number):
    examples.append(number)
    try:
        await asyncio.Event().wait()
    finally:
        cleaned_up.set()

@limited
async def test_the_alarm_rings_in_another_task():
    other = asyncio.create_task(slow())
    await asyncio.Event().wait()

async def slow():
    time.sleep(20)

@limited
@given(number=st.integers())
def test_it_waits_without_an_event_loop(number):
    examples.append(number)
    time.sleep(60)

async def test_the_next_one_runs_alone():
    assert cleaned_up.is_set()
    assert len(examples) == 2
    assert [task.get_coro().__name__ for task in asyncio.all_tasks()] == [
        "test_the_next_one_runs_alone"
    ]
"""
_CONFTEST = """
import tests.time_limits
from tests.time_limits import pytest_runtest_call, pytest_timeout_set_timer

tests.time_limits.AGAIN_SECONDS = 1
"""
_OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "--asyncio-mode=auto"),
    *("-o", "asyncio_default_test_loop_scope=session"),
)


def test_a_test_whose_time_is_up_ends_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_hanging.py").write_text(_HANGING)
    (tmp_path / "pytest.ini").touch()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", *_OPTIONS, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "3 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("TimeIsUp: Timeout") >= 3
    assert "Flaky" not in done.stdout
