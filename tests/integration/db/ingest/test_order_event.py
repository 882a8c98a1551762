"""Postgres stores every event that is accepted, and returns it unchanged."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consumers.orders import judge_all
from service.core.batch import Outcome
from service.core.envelope import Entry
from service.core.order_event import OrderEvent
from service.db.ingest.ingest import ingest
from tests.conftest import Service
from tests.events import cloud_event
from tests.unit.core.test_order_event import mutated

texts = st.text(st.characters(codec=None), min_size=1, max_size=30) | st.sampled_from(
    ["{}", "{a,b}", '"', "\\", "\\x00", "NULL", "null", "'; --", "%s", ":name", "\u2028", "🛒" * 9]
)
_SUITS = [HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
"""Every example rolls back, so all of them can use the same empty service."""
_YEARS = timedelta(days=36 * 365)


@st.composite
def documents(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """Draw a document with any text, amount and time that may be accepted."""
    cents = draw(st.integers(0, 10**14 - 1))
    return cloud_event(
        draw(texts),
        event_id=draw(texts),
        version=draw(st.integers(0, 2**63 - 1)),
        email=f"{draw(texts)}@{draw(texts)}",
        name=draw(texts),
        phone=draw(texts),
        total=str(Decimal(cents) / 100),
        refunded=str(Decimal(draw(st.integers(0, 10**14 - 1))) / 100),
        currency=draw(st.sampled_from(["USD", "EUR", "", None])),
        exchangeRate=draw(st.sampled_from([None, "0.0000000001", "0.1234567891", 1])),
        created=datetime(1990, 1, 2, tzinfo=UTC) + draw(st.timedeltas(timedelta(), _YEARS)),
        updated=datetime.now(UTC) + timedelta(hours=draw(st.integers(-9, 23))),
        event_time=datetime.now(UTC) + timedelta(hours=draw(st.integers(-9, 23))),
        shippingAddress={"street": draw(texts), "country": draw(texts)},
    )


def judged_event(service: Service, document: object) -> tuple[Any, OrderEvent | None]:
    entry = Entry("1700000000000-0", {b"data": json.dumps(document).encode()})
    batch = judge_all([entry], service.config)
    verdict = batch[0].verdict
    return batch, verdict if isinstance(verdict, OrderEvent) else None


@settings(max_examples=150, deadline=None, suppress_health_check=_SUITS)
@given(documents())
async def test_an_accepted_event_is_stored_and_read_back(
    empty_service: Service, document: dict[str, Any]
) -> None:
    batch, event = judged_event(empty_service, document)
    assume(event is not None)
    assert event is not None
    assert event.customer is not None
    person = event.customer
    async with empty_service.engine.connect() as connection:
        assert await ingest(connection, batch) == {Outcome.APPLIED: 1}
        columns = (
            "SELECT o.*, c.email_key, c.name, c.name_event, c.phone, c.address"
            " FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = $1"
        )
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        (row,) = await driver.fetch(columns, event.order_id)
        await connection.rollback()
    key = (row["version"], row["updated_at"], row["sent_at"] or row["updated_at"], row["event_id"])
    assert key == event.key
    assert (row["currency"], row["exchange_rate"]) == (event.currency, event.exchange_rate)
    assert (row["total"] * 100, row["refunded"] * 100) == (event.total_cents, event.refunded_cents)
    assert row["date_created"] == event.date_created
    assert (row["email_key"], row["name"], row["phone"]) == (
        person.email,
        person.name,
        person.phone,
    )
    assert row["name_event"] == (row["event_id"] if person.name else None)
    assert row["address"] == person.address


@settings(max_examples=150, deadline=None, suppress_health_check=_SUITS)
@given(mutated())
async def test_a_mutated_document_is_applied_or_becomes_a_dead_letter(
    empty_service: Service, document: dict[str, Any]
) -> None:
    batch, event = judged_event(empty_service, document)
    expected = Outcome.APPLIED if event else Outcome.DEAD_LETTERED
    async with empty_service.engine.connect() as connection:
        assert await ingest(connection, batch) == {expected: 1}
        await connection.rollback()
