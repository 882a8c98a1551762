"""A service with rows in every table, whose invariants hold and were verified once."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.bulk_change import BulkKind
from service.core.endpoints import EventKind, make_secret
from service.core.identifiers import value_of
from service.core.own_fields import FieldKind
from service.core.scopes import LOCAL, Role, Scope
from service.db.accounts import api_keys, passwords, sessions, users
from service.db.customers import editing, interactions
from service.db.customers.customer_filter import EVERYBODY
from service.db.customers.editing import HoldEdit
from service.db.customers.filters import Filter
from service.db.customers.identity import not_a_person
from service.db.customers.identity.merge import merge
from service.db.customers.identity.pairs import separate
from service.db.customers.own_fields import catalogue as own_fields
from service.db.customers.tags import bulk
from service.db.customers.tags.tagging import change_tags
from service.db.customers.views import saved
from service.db.engine import in_transaction
from service.db.operations import endpoints
from service.db.operations.endpoints import NewEndpoint
from service.db.operations.status import note_verification
from service.db.segments import reclassify, rule_settings
from tests.conftest import Service
from tests.events import fields
from tests.integration.db.operations.conftest import publish_changes
from tests.integration.db.outlook.shop import refresh_all
from tests.integration.streams.scene import Scene

_ADDRESS = {"street": "1 Main St", "city": "Austin", "zip": "78701"}
_PASSWORD = "correct horse battery staple"
_PEOPLE = (
    {"id": 1, "email": "p@x.org"},
    {"email": "q@x.org"},
    {"email": "r@x.org"},
    {"id": 2},
    {"id": 2, "email": "r@x.org"},  # so the two are due to be merged
    {"email": "till@x.org"},
)
_NO_HOLD = HoldEdit(frozenset())
# What no part of the service writes in a test as small as this one.
_ROWS = (
    """INSERT INTO losses (stream, kind, after_id, until_id, entries, since, noticed_at,
         last_noticed_at, acknowledged_at, acknowledged_by)
       VALUES ('gone', 'removed', '1-0', '2-0', 2, now(), now(), now(), now(), 'test')""",
    """INSERT INTO foreign_entries (stream, kind, first_id, last_id, entries, reason, sample,
         noticed_at, last_noticed_at, acknowledged_at, acknowledged_by)
       VALUES ('gone', 'foreign', '1-0', '2-0', 2, 'not ours', 'x', now(), now(), now(), 'test')""",
    """INSERT INTO removals (customer_id, reason, merged_into, removed_at)
       VALUES (900, 'merged', 1001, now())""",
    """INSERT INTO order_conflicts (order_id, event_id, version, updated_at, sent_at, content)
       SELECT id, 'another', version, updated_at, updated_at, '{"status": "lost"}'
       FROM orders WHERE id = 'ORD-1'""",
    """INSERT INTO hooks (platform, domain, last_delivery_at, last_failure_at, last_failure)
       VALUES ('shopify', 'shop.example', now(), now(), 'the signature was wrong')""",
    "INSERT INTO hook_secrets (hook_id, sealed, expires_at) SELECT id, 'sealed', now() FROM hooks",
    """INSERT INTO hook_deliveries (hook_id, topic, outcome, deliveries, last_at)
       SELECT id, 'orders/create', 'published', 3, now() FROM hooks""",
    """INSERT INTO shop_requests (platform, domain, kind, digest, customer_id, done_at, done_by)
       VALUES ('shopify', 'shop.example', 'data', 'x', 1001, now(), 'test')""",
    """INSERT INTO shop_orders (source, shop_id, order_id, deleted_at, told)
       VALUES ('shop.example', '1', 'ORD-1', now(), '{"status": "paid"}')""",
    "INSERT INTO shop_refunds VALUES ('shop.example', '1', '2', 5, now())",
    """INSERT INTO imports (begun_by, file_name, changed_at, state, runner, seen_at, step,
         finished_at, summary, report, error)
       VALUES ('test', 'orders.csv', now(), 'ready', 'x', now(), 'Reading', now(), '[]', '[]',
         'none')""",
    "INSERT INTO import_pieces SELECT max(id), 'file', 0, 'x' FROM imports",
    "INSERT INTO devices (token_hash, user_id) SELECT 'x', min(id) FROM users",
    "UPDATE bulk_changes SET undone_at = now(), undone_by = 'test' WHERE kind = 'remove_tag'",
    "UPDATE bulk_changed SET given_by_bulk = 1",
    "INSERT INTO view_counts VALUES ('1', current_date, 1, now(), 0.1)",
    "INSERT INTO stream_searches VALUES ('gone', 1, 0, '1-0', '2-0', 1)",
    "INSERT INTO reconstructions (cause) VALUES ('asked')",
    "INSERT INTO trims VALUES ('gone', 5, 'analytics', '1-0')",
    "INSERT INTO list_walks VALUES ('of a list', now(), '{1001, 1002}', true)",
    "INSERT INTO partition_counters VALUES (3, 1, 0)",
    "INSERT INTO kept_answers VALUES ('medians', now(), 0.2, '{\"vip\": 1}')",
    "INSERT INTO span_customers VALUES ('vip', 2, 300, ARRAY[now()], '{50000}')",
    "INSERT INTO span_orders VALUES (current_date, 1, '{-infinity}', '{2}')",
    f"UPDATE segment_changes SET traceparent = '00-{'a' * 32}-{'b' * 16}-01' WHERE id = 1",
    """INSERT INTO insight_models (fitted_at, seconds, cause, state, customers, repeaters,
         r, alpha, a, b, late, p, q, v, settled, recency_cuts, frequency_cuts, monetary_cuts)
       VALUES (now(), 1, 'daily', 'fitted', 9, 4, 0.6, 60, 0.8, 2, 1, 6, 4, 16, true,
         array_fill(now() - interval '30 days', ARRAY[4]), '{1,1,2,4}', '{20,40,80,160}')""",
    """INSERT INTO contact_rounds (list, marked_by, contacted, left_out)
       VALUES ('overdue', 'test', 1, 0)""",
    "INSERT INTO contacts SELECT id, 1001, true FROM contact_rounds",
    # What was done more than an hour ago is remembered by a verification.
    "UPDATE audit SET at = at - interval '2 hours'",
    "UPDATE sightings SET away_since = now()",
)


async def populate(service: Service, now: datetime) -> None:
    """Fill an empty service by its own functions, publish its changes, and verify it."""
    scene = Scene(service)
    await scene.begin()
    for number in range(1, 9):
        await service.publish(
            fields(
                f"ORD-{number}",
                email=f"{'abcdefgh'[number % 5]}@x.org",
                name="Jane Smith",
                phone="+1 512 555 5678",
                total=f"{number * 20}.00",
                refunded="0.50",
                currency="EUR" if number <= 4 else "USD",
                exchangeRate="1.0853",
                created=now - timedelta(days=number * 9),
                updated=now - timedelta(days=number * 9),
                event_time=now - timedelta(days=number * 9, minutes=-1),
                shippingAddress=_ADDRESS,
            )
        )
    await service.publish(fields("ORD-NOBODY", customer=None))
    await service.publish(fields("ORD-BAD", status="nonsense"))
    for number, person in enumerate(_PEOPLE):
        await service.publish(fields(f"ORD-P{number}", customer=person, created=now))
    entries = await scene.read(30)
    # They are applied over the days in which they were placed.
    for entry in reversed(entries[:8]):
        order = int(entry.fields[b"data"].split(b'"ORD-')[1].split(b'"')[0])
        await service.ingest(entry, now=now - timedelta(days=order * 9) + timedelta(hours=1))
    for entry in entries[8:]:
        await service.ingest(entry)
    await scene.acknowledge(entries)
    await scene.check()
    await service.execute("UPDATE sweep SET swept_until = now()")
    with _hashed_quickly():
        await in_transaction(service.engine, _by_people)
    while await in_transaction(service.engine, reclassify.advance):
        pass
    async with service.engine.begin() as connection:
        held = HoldEdit(frozenset({"segment"}), segment="vip")
        await editing.edit(connection, "test", 1002, {}, held, None)
        await editing.delete(connection, "test", 1003)
        await _who_is_who(connection)
    for statement in _ROWS:
        await service.execute(statement)
    await refresh_all(service)
    # Figures are checked that nothing has changed for a while.
    await service.execute(
        "UPDATE insight_refresh SET begun_at = begun_at + interval '1 hour',"
        " completed_at = completed_at + interval '1 hour'"
    )
    await publish_changes(service)
    report = await service.verify()
    assert report.broken == []
    await in_transaction(service.engine, note_verification, [], report.remembered)


@contextmanager
def _hashed_quickly() -> Iterator[None]:
    """Hash passwords with Argon2's least parameters.

    Those of the service take 0.3 s of CPU time for each hash, most of the time of a test that
    checks no password.
    """
    passwords._stand_in_hash()  # kept for the whole process, so with the right parameters
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", quick)
        yield


async def _who_is_who(connection: AsyncConnection) -> None:
    """Leave a merged customer, a mark, a separation and pairs that are due to be merged."""
    rows = await connection.execute(text("SELECT identifier, customer_id FROM identifiers"))
    who = {value_of(row.identifier): row.customer_id for row in rows}
    await merge(connection, who["p@x.org"], who["q@x.org"], "test")
    await not_a_person.mark(connection, "email:till@x.org", "test")
    await separate(connection, who["p@x.org"], who["r@x.org"], "test")
    await connection.execute(
        text(
            "INSERT INTO pending_merges (low, high, since, protected)"
            " VALUES (1001, :high, now() - interval '1 day', true)"
        ),
        {"high": who["p@x.org"]},
    )


async def _by_people(connection: AsyncConnection) -> None:
    correction = {"email": "new@x.org", "notes": "x"}
    await editing.edit(connection, "test", 1001, correction, _NO_HOLD, None)
    await interactions.add(connection, "test", 1001, "call", "Called", datetime.now(UTC))
    await own_fields.create(connection, "test", "Fit", FieldKind.CHOICE, ["Slim", "Loose"])
    await editing.edit(connection, "test", 1001, {}, _NO_HOLD, None, own={"fit": "Slim"})
    await change_tags(connection, 1001, "test", add=["Press"])
    for kind in (BulkKind.ADD_TAG, BulkKind.REMOVE_TAG, BulkKind.ADD_TAG):
        await bulk.apply(connection, Filter(), kind, "Wholesale", "test")
    await saved.create(connection, LOCAL, "All", EVERYBODY, "-dateCreated", shared=True)
    changes = {"vip_order_count": 4, "count_free_orders": False}
    await rule_settings.save(connection, "test", changes, None)
    soon = datetime.now(UTC) + timedelta(days=9)
    key = await api_keys.create_key(connection, "shop", [Scope.READ], expires_at=soon, actor="test")
    await api_keys.touch_key(connection, key.id)
    await api_keys.revoke_key(connection, key.id, actor="test")
    endpoint = NewEndpoint("https://shop.example/hook", tuple(EventKind))
    await endpoints.add(connection, endpoint, make_secret(), "test")
    for email in ("u@x.org", "v@x.org"):
        user = await users.add_user(connection, email, _PASSWORD, Role.VIEWER, actor="test")
        await users.verify_password(connection, email, _PASSWORD)
        await sessions.start(connection, user.id)
    await users.set_role(connection, "u@x.org", Role.EDITOR, actor="test")
    await users.disable_user(connection, "v@x.org", actor="test")
