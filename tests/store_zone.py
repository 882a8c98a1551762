"""A store that moves to another time zone, and the worker's part in that."""

from service.db.operations.past_days import compute_past_days
from service.db.segments import rule_settings
from service.db.segments.reclassify import advance
from service.db.statistics.generations import follow_time_zone
from tests.conftest import Service


async def move_to(service: Service, zone: str) -> None:
    """Set the store's time zone, and do the worker's part of the change."""
    await service.in_transaction(rule_settings.save, "test", {"time_zone": zone}, None)
    while await service.in_transaction(advance):
        pass
    await count_days(service)


async def count_days(service: Service) -> None:
    """Count the days of a changed zone, and those that somebody has asked for."""
    while True:
        followed = await service.in_transaction(follow_time_zone)
        if not (await service.in_transaction(compute_past_days) or followed):
            return
