"""A web application, keys of several scopes, and dead letters of an earlier release."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text

from service.core.dead_letters import digest
from service.core.envelope import Entry
from service.core.order_event import Judged, Reason, Refusal
from service.core.scopes import Scope
from service.db.accounts.api_keys import create_key
from service.db.ingest.ingest import ingest
from tests.conftest import Service
from tests.integration.http.conftest import client


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as http:
        yield http


async def key(service: Service, *scopes: Scope) -> dict[str, str]:
    """Create an API key with these scopes. Return the headers that carry it."""
    async with service.engine.begin() as connection:
        created = await create_key(connection, f"key {'+'.join(scopes)}", scopes, actor="test")
    return {"X-API-Key": created.reveal()}


async def old_letter(service: Service, entry: Entry, reason: str = "not_json") -> None:
    """Store a dead letter as workers of an earlier release do: whole, and without its measures."""
    async with service.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO dead_letters"
                " (stream_id, field_names, field_values, reason, error, digest)"
                " VALUES (:id, CAST(:names AS bytea[]), CAST(:values AS bytea[]), :reason, 'bad',"
                " :digest)"
            ),
            {
                "id": entry.id,
                "names": list(entry.fields),
                "values": list(entry.fields.values()),
                "reason": reason,
                "digest": digest(entry),
            },
        )


EARLIER = Refusal(Reason.CURRENCY_MISMATCH, "`data.currency` is 'EUR', but this store is in USD")


async def refused_earlier(service: Service, *entries: Entry) -> None:
    """Store entries as dead letters that an earlier release refused for their currency."""
    await service.in_transaction(ingest, [Judged(entry, EARLIER) for entry in entries])
