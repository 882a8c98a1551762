"""A worker has a process of its own predict customers; numpy never comes into the worker."""

import sys
from datetime import datetime
from pathlib import Path
from random import Random

from service.db.outlook.due import read_situation
from tests.conftest import Service
from tests.integration.db.outlook.shop import open_shop
from tests.processes import Processes
from tests.wait import until


async def test_a_worker_has_customers_predicted(
    service: Service, crm: Processes, now: datetime
) -> None:
    await open_shop(service, Random(4), now)

    async def is_done() -> bool:
        async with service.engine.connect() as connection:
            situation = await read_situation(connection)
        return situation.completed_at is not None and not situation.busy

    worker = await crm.worker()
    await until(is_done)
    rows = await service.rows("SELECT count(*) AS n FROM customer_outlook")
    assert rows == [{"n": 700}]
    assert "fitted a model of 700 customers" in worker.output
    if sys.platform == "linux":
        assert "numpy" not in _loaded_by(worker.pid)


def _loaded_by(pid: int) -> str:
    """Return the libraries that a process has loaded."""
    return Path(f"/proc/{pid}/maps").read_text()
