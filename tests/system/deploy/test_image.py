"""What the Dockerfile does and promises, as far as that can be done without Docker."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.scene import all_applied, all_published
from tests.paths import DEPLOY, ROOT
from tests.processes import Process, Processes, free_port
from tests.system.deploy.test_built import let_through
from tests.wait import until

_READ_ONLY = 'mount --make-rprivate / && mount -o remount,bind,ro / && exec "$0" -m service.cli $1'


def _sealed(crm: Processes, command: str, **settings: object) -> Process:
    """Start a command that can write to no file of the root filesystem."""
    argv = ["unshare", "--mount", "sh", "-c", _READ_ONLY, sys.executable, command]
    code = f"import os; os.execvp('unshare', {argv!r})"
    port = free_port()
    settings["worker_port" if command == "worker" else "http_port"] = port
    return crm.start(["-c", code], port, **settings)


def _runs(process: Process) -> bool:
    return bool(Path(f"/proc/{process.pid}/cmdline").read_bytes())  # a zombie has none


async def _is_ready(process: Process) -> bool:
    assert _runs(process), process.output
    status, _ = await process.ask("/readyz")
    return status == HTTPStatus.OK


def _root_is_read_only(process: Process) -> bool:
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
    return any(it.split()[4] == "/" and "ro" in it.split()[5].split(",") for it in mounts)


def _may_mount() -> bool:
    probe = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount --make-rprivate / && mount -o remount,bind,ro /",
    ]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(probe, check=False, capture_output=True).returncode == 0  # noqa: S603
    )


async def test_worker_and_web_need_no_file_that_can_be_written(
    service: Service, crm: Processes
) -> None:
    if not _may_mount():
        pytest.skip("this user may not mount a read-only root")
    worker, web = _sealed(crm, "worker"), _sealed(crm, "web")
    for process in (worker, web):
        await until(partial(_is_ready, process), 90)  # nothing is compiled ahead there
    await service.publish(fields("ORD-1", email="jane@example.org"))
    await all_applied(service, 1)
    await all_published(service)
    status, body = await web.ask("/api/v1/customers")
    assert (status, body["total"]) == (200, 1)
    for process in (worker, web):
        assert _root_is_read_only(process)
    assert await worker.terminate() == 0


@pytest.mark.skipif(
    not os.environ.get("CRM_TEST_IMAGE"),
    reason="installs everything anew: set CRM_TEST_IMAGE=1",
)
@pytest.mark.timeout(1800)
def test_the_steps_of_the_build_stage_leave_a_command(tmp_path: Path) -> None:
    context, target = tmp_path / "build", tmp_path / "crm"
    context.mkdir()
    let_through(context)
    stage = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")[1].replace("\\\n", "")
    system = tmp_path / "system"  # where the image has its own Python
    subprocess.run([sys.executable, "-m", "venv", system], check=True)  # noqa: S603
    env = os.environ | {"PATH": f"{system / 'bin'}:{os.environ['PATH']}"}
    for line in stage.splitlines():
        if line.startswith("COPY requirements"):
            for name in line.split()[1:-1]:
                shutil.copy(ROOT / name, context)
        elif found := re.match(r"RUN (.+)", line):
            step = found[1].replace("/opt/crm", str(target))
            subprocess.run(["sh", "-ec", step], check=True, cwd=context, env=env)  # noqa: S603, S607
    shown = subprocess.run(  # noqa: S603
        [target / "bin/crm", "--help"], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert "worker" in shown
    assert not (target / "bin/pip").exists()
