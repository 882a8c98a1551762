"""Children that never start, never stop, keep crashing, or write too much into their log."""

import asyncio
import sys
from pathlib import Path

import pytest

from service.local import LocalError, supervise
from service.local import child as child_module
from service.local.child import Child, Log
from service.local.supervise import Supervisor
from tests.system.local.stack_processes import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a data folder with nothing in it."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    return tmp_path


def _child(folder: Path, code: str, **more: float) -> Child:
    """Return a child that is ready once it has created the file ``ready``."""

    async def ready() -> None:
        await asyncio.to_thread((folder / "ready").read_bytes)

    code = f"import pathlib, signal, time; {code}"
    return Child("it", [sys.executable, "-c", code], ready, "here", **more)  # type: ignore[arg-type]


READY = "pathlib.Path('{}').touch(); "


async def test_a_child_that_never_starts_is_reported_with_its_log(folder: Path) -> None:
    supervisor = Supervisor(folder, lambda _: None)
    with pytest.raises(LocalError, match=r"it ended with exit code 1(.|\n)*no such luck"):
        await supervisor.start(_child(folder, "raise SystemExit('no such luck')"))
    await supervisor.stop()


async def test_a_child_that_is_never_ready_fails_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "START_SECONDS", 0.3)
    supervisor = Supervisor(folder, lambda _: None)
    with pytest.raises(LocalError, match=r"was not ready within .*FileNotFoundError"):
        await supervisor.start(_child(folder, "time.sleep(60)"))
    await supervisor.stop()
    assert supervisor.children["it"].pid is None


async def test_a_child_that_does_not_stop_is_killed(folder: Path) -> None:
    reports: list[str] = []
    supervisor = Supervisor(folder, reports.append)
    code = "signal.signal(15, signal.SIG_IGN); " + READY.format(folder / "ready")
    kept = await supervisor.start(_child(folder, code + "time.sleep(60)", grace=0.2))
    await supervisor.stop()
    assert kept.pid is None
    assert "did not stop" in reports[-1]


async def test_pauses_grow_while_a_child_keeps_crashing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.1)
    reports: list[str] = []
    changes: list[int | None] = []
    supervisor = Supervisor(folder, reports.append)
    supervisor.changed = lambda: changes.append(supervisor.children["it"].pid)
    code = READY.format(folder / "ready") + "time.sleep(.1); print('oops'); raise SystemExit(3)"
    kept = await supervisor.start(_child(folder, code))
    await wait_until(lambda: kept.restarts == 4)
    await supervisor.stop()
    crashes = [report for report in reports if "restarting in" in report]
    pauses = [float(r.partition("restarting in ")[2].partition(" s")[0]) for r in crashes]
    assert pauses[3] > pauses[0] * 2
    assert "ended with exit code 3" in crashes[0]
    assert crashes[0].endswith("\n    oops")
    assert changes[0] is None
    assert changes[1] is not None


async def test_a_large_log_is_moved_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LOG_BYTES", 100)
    log = Log(folder / "log" / "it.log")
    with log.path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 101)
        log.bound()
        writer.write(b"y")
    assert log.path.read_bytes() == b"y"
    assert (folder / "log" / "it.log.1").read_bytes() == b"x" * 101
