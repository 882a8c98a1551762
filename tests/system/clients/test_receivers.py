"""The receivers of `docs/webhooks-out.md` do what the page says, exactly as it prints them."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.core.endpoints import make_secret
from service.db.customers import editing
from service.db.operations import endpoints
from tests.conftest import Service
from tests.integration.worker.scene import change
from tests.integration.worker.test_deliveries import delivering, noted, register
from tests.paths import ROOT
from tests.processes import HOST, free_port
from tests.system.clients.conftest import Program
from tests.wait import until

_PAGE = (ROOT / "docs/webhooks-out.md").read_text()
_PROGRAMS = {
    name: text
    for text, name in re.findall(
        r"^```\w+\n((?:#|//) (receive\.\w+): .*?)^```", _PAGE, re.MULTILINE | re.DOTALL
    )
}


@contextlib.asynccontextmanager
async def running(name: str, folder: Path, port: int, secret: str) -> AsyncIterator[Program]:
    """Run a receiver until the block ends."""
    command = sys.executable if name.endswith(".py") else "node"
    if not shutil.which(command):
        pytest.skip("Node.js is not installed (apt-get install nodejs)")
    (folder / name).write_text(_PROGRAMS[name])
    log = folder / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            command,
            str(folder / name),
            env={**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret},
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    program = Program(process, log)

    async def listens() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return True
        assert process.returncode is None, program.lines
        return False

    try:
        await until(listens)
        yield program
    finally:
        await program.kill()


def test_the_page_has_one_in_python_and_one_in_javascript() -> None:
    assert sorted(_PROGRAMS) == ["receive.mjs", "receive.py"]


@pytest.mark.parametrize("name", _PROGRAMS)
async def test_a_receiver_takes_each_event_once_and_refuses_what_is_forged(
    service: Service, tmp_path: Path, name: str
) -> None:
    former, secret, port = make_secret(), make_secret(), free_port()
    url = f"http://{HOST}:{port}/hook"
    async with running(name, tmp_path, port, former) as program, delivering(service):
        endpoint = await register(service, url, secret=former)
        # Requests have the signatures of both secrets while one replaces the other.
        day = timedelta(days=1)
        await service.in_transaction(endpoints.renew_secret, endpoint, secret, day, "test")
        await change(service, 1, 2)
        await change(service, 1)
        await service.in_transaction(editing.delete, "test", 1002)
        await noted(service, endpoint, 4)
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        await service.in_transaction(endpoints.replay, endpoint, long_ago, "test", False)  # noqa: FBT003
        await noted(service, endpoint, 8)
        async with httpx.AsyncClient(trust_env=False) as stranger:
            forged = {
                "webhook-id": "CUST-1009:1",
                "webhook-timestamp": str(int(datetime.now(UTC).timestamp())),
                "webhook-signature": "v1,bm90IHNpZ25lZA==",
            }
            answer = await stranger.post(url, content=b"{}", headers=forged)
    assert answer.status_code == 401
    printed = [line for line in program.lines if line.startswith("CUST-")]
    assert printed.count("CUST-1002 gone") == 2  # it says so again; to be gone twice is no harm
    changes = sorted(line for line in printed if not line.endswith("gone"))
    assert changes == ["CUST-1001 1 new", "CUST-1001 2 returning", "CUST-1002 1 new"]
