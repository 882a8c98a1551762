"""A store that moves to another time zone."""

from service.db.segments import rule_settings
from service.db.segments.reclassify import advance
from tests.conftest import Service


async def move_to(service: Service, zone: str) -> None:
    """Set the store's time zone, and do the worker's part of the change."""
    await service.in_transaction(rule_settings.save, "test", {"time_zone": zone}, None)
    while await service.in_transaction(advance):
        pass
