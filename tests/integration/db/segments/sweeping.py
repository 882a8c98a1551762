"""Sweeps at a moment that the test chooses."""

from datetime import datetime

from service.db.engine import in_transaction
from service.db.segments.sweep import sweep
from tests.conftest import Service


async def swept_until(service: Service, moment: datetime) -> None:
    """Set the sweep's watermark to a moment."""
    await service.execute("UPDATE sweep SET swept_until = :moment", moment=moment)


async def sweep_all(service: Service, moment: datetime | None = None) -> list[int]:
    """Sweep until nobody is due. Return how many customers each transaction moved."""
    moved = []
    while not (
        result := await in_transaction(service.engine, lambda connection: sweep(connection, moment))
    ).finished:
        moved.append(result.moved)
        assert len(moved) < 100, "the sweep does not come to an end"
    return moved
