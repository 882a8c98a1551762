"""Sweeping at a moment of the test's choice."""

from datetime import datetime

from service.db.engine import in_transaction
from service.db.segments.sweep import sweep
from tests.conftest import Service


async def swept_until(service: Service, moment: datetime) -> None:
    """Pretend that the last sweep was then."""
    await service.execute("UPDATE sweep SET swept_until = :moment", moment=moment)


async def sweep_all(service: Service, moment: datetime | None = None) -> list[int]:
    """Sweep until nobody is left; gives how many each transaction moved."""
    moved = []
    while not (
        swept := await in_transaction(service.engine, lambda connection: sweep(connection, moment))
    ).finished:
        moved.append(swept.moved)
        assert len(moved) < 100, "the sweep does not come to an end"
    return moved
