"""A test whose time is up ends, and does not stop the tests after it."""

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.paths import ROOT

_HANGING = """
import asyncio
from hypothesis import given, settings, strategies as st

examples = []
cleaned_up = asyncio.Event()

@given(number=st.integers())
async def test_it_hangs(number):
    examples.append(number)
    try:
        await asyncio.Event().wait()
    finally:
        cleaned_up.set()

async def test_it_catches_the_first_alarm():
    background = asyncio.create_task(endless())
    await asyncio.Event().wait()

async def endless():
    while True:
        await asyncio.sleep(0)

@given(number=st.integers())
def test_it_waits_without_an_event_loop(number):
    examples.append(number)
    __import__("time").sleep(60)

async def test_the_next_one_runs_alone():
    assert cleaned_up.is_set()
    assert len(examples) == 2
    assert not [task for task in asyncio.all_tasks() if "hangs" in repr(task)]
"""
_CONFTEST = """
import tests.time_limits
from tests.time_limits import pytest_runtest_call, pytest_timeout_set_timer

tests.time_limits.AGAIN_SECONDS = 0.2
"""
_OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "--timeout=0.5", "--asyncio-mode=auto"),
    *("-o", "asyncio_default_test_loop_scope=session"),
)


def test_a_test_whose_time_is_up_ends_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_hanging.py").write_text(textwrap.dedent(_HANGING))
    (tmp_path / "pytest.ini").touch()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", *_OPTIONS, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "3 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("TimeIsUp: Timeout") >= 3
    assert "Flaky" not in done.stdout
