"""Orders of an earlier release hold: it did not store the own time of an event."""

from datetime import datetime, timedelta

from tests.conftest import Service
from tests.events import fields
from tests.integration.streams.scene import Scene


async def test_an_order_without_the_time_of_its_event_is_not_older_than_the_event(
    service: Service, now: datetime
) -> None:
    scene = Scene(service)
    await scene.begin()
    for number in range(3):
        order = {"created": now, "updated": now, "event_time": now + timedelta(seconds=1)}
        await service.publish(fields(f"ORD-{number}", email="a@x.org", **order))
    entries = await scene.read(3)
    await service.ingest(*entries)
    await scene.acknowledge(entries)
    await scene.check()
    await service.execute("UPDATE orders SET sent_at = NULL, named_sent_at = NULL")
    assert await service.findings() == []
    ids = "event_id = {0}, named_event_id = {0}"
    damaged, mended = ids.format("'!' || event_id"), ids.format("substr(event_id, 2)")
    await service.execute(f"UPDATE orders SET {damaged} WHERE id = 'ORD-1'")
    assert 3 in {finding.number for finding in await service.findings()}
    await service.execute(f"UPDATE orders SET {mended} WHERE id = 'ORD-1'")
