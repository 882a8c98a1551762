"""The relay's input: segment changes that are not published yet, as JSON."""

import json

import jsonschema_rs

from service.db.segments.change_outbox import CHANGES
from service.http.asyncapi import CHANGE_EXAMPLE, asyncapi
from tests.conftest import Service
from tests.events import entry


async def test_published_changes_match_their_schema(service: Service) -> None:
    schema = asyncapi()["components"]["schemas"]["customerSegmentChanged"]
    jsonschema_rs.validate(schema, CHANGE_EXAMPLE)
    await service.ingest(entry("ORD-1", email="a@x.org", total="10"))
    async with service.engine.connect() as connection:
        changes = await CHANGES.next_page(connection, 0, 10)
    assert changes
    for change in changes:
        jsonschema_rs.validate(schema, json.loads(change.body))
