"""Migrations run on a database in use, and nobody waits long for them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.config import asyncpg_url
from service.db import migrate
from service.db.engine import in_transaction
from service.db.operations.verify import database_findings
from service.db.segments.reclassify import advance
from tests.servers import Servers
from tests.wait import until

FIRST_IN_USE = "0002"
"""The oldest schema that is in use anywhere: migrations up to it ran on empty databases only."""

_USER = "(email, email_key, password_hash, role, disabled_at) VALUES ('a', 'a', '', 'admin', now())"
_KEY = "(id, name, secret_hash, scopes, revoked_at) VALUES ('a', 'a', '\\x00', '{read}', now())"
_FILES = """
SELECT relname, relfilenode FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
"""
_BUILDS = re.compile(
    r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*? ON (?:public\.)?\"?(\w+)", re.DOTALL
)
_CHECKS = re.compile(r"ALTER TABLE \"?(\w+)\"? (?:(?!NOT VALID|USING INDEX).)*$", re.DOTALL)
_SLOW_CHANGES = ("ADD CONSTRAINT", "SET NOT NULL", " TYPE ")


def _revisions() -> list[str]:
    """Return the migrations that run on databases in use, oldest first."""
    scripts = ScriptDirectory.from_config(migrate._alembic())
    found = [script.revision for script in scripts.iterate_revisions("head", FIRST_IN_USE)]
    return found[::-1]


def _before(revision: str) -> str:
    """Return the revision that a migration starts from."""
    script = ScriptDirectory.from_config(migrate._alembic()).get_revision(revision)
    return str(script.down_revision)


def _upgrade_to(connection: Connection, revision: str) -> None:
    config = migrate._alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@asynccontextmanager
async def _engine(servers: Servers) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(asyncpg_url(servers.database_url))
    try:
        yield engine
    finally:
        await engine.dispose()


async def _up_to(engine: AsyncEngine, revision: str) -> list[str]:
    """Migrate up to a revision; return the statements that were sent."""
    statements: list[str] = []

    def seen(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", seen)
    async with engine.connect() as connection:
        await connection.run_sync(_upgrade_to, revision)
        await connection.commit()
    event.remove(engine.sync_engine, "before_cursor_execute", seen)
    return statements


async def _tables(engine: AsyncEngine) -> dict[str, int]:
    """Return all tables with their file numbers; a table that is rewritten gets a new one."""
    async with engine.connect() as connection:
        return {row.relname: row.relfilenode for row in await connection.execute(text(_FILES))}


def _holding_up(statements: list[str], tables: dict[str, int]) -> list[str]:
    """Return the statements that read or write a whole table under a lock that stops writers."""
    return [
        statement
        for statement in statements
        if ((build := _BUILDS.match(statement)) and build[1] in tables)
        or (
            (check := _CHECKS.match(statement))
            and check[1] in tables
            and any(change in statement for change in _SLOW_CHANGES)
        )
    ]


async def test_no_migration_rewrites_a_table_or_locks_it_for_long(own_servers: Servers) -> None:
    async with _engine(own_servers) as engine:
        await _up_to(engine, FIRST_IN_USE)
        for revision in _revisions():
            before = await _tables(engine)
            statements = await _up_to(engine, revision)
            assert _holding_up(statements, before) == [], revision
            after = await _tables(engine)
            assert {name: after.get(name) for name in before} == before, revision


@pytest.mark.parametrize(
    ("statement", "holds_up"),
    [
        ("CREATE INDEX a ON customers (b)", True),
        ("CREATE UNIQUE INDEX a ON public.customers (b)", True),
        ("CREATE INDEX CONCURRENTLY a ON customers (b)", False),
        ("CREATE INDEX a ON new_table (b)", False),
        ("ALTER TABLE customers ALTER COLUMN a SET NOT NULL", True),
        ("ALTER TABLE customers ALTER COLUMN a TYPE text", True),
        ("ALTER TABLE customers ADD CONSTRAINT a CHECK (b > 0)", True),
        ("ALTER TABLE customers ADD CONSTRAINT a CHECK (b > 0) NOT VALID", False),
        ("ALTER TABLE customers ADD COLUMN a TEXT", False),
    ],
)
def test_statements_that_stop_writers_are_recognised(statement: str, *, holds_up: bool) -> None:
    assert bool(_holding_up([statement], {"customers": 1})) == holds_up


async def test_while_a_migration_waits_for_a_long_reader_others_can_read(
    own_servers: Servers,
) -> None:
    """A report reads for minutes. Its table is altered afterwards; others can read meanwhile."""
    async with _engine(own_servers) as engine, _engine(own_servers) as others:
        await _up_to(engine, "0005")
        async with engine.connect() as report:
            await report.execute(text("SELECT count(*) FROM segment_changes"))
            migrating = asyncio.create_task(migrate.upgrade(asyncpg_url(own_servers.database_url)))
            await until(lambda: _waits(others))
            async with (
                others.begin() as writer
            ):  # queues behind the migration until that gives up for the moment
                await writer.execute(text("SET statement_timeout = '30s'"))
                await writer.execute(text("SELECT count(*) FROM segment_changes"))
            assert not migrating.done()
            await report.rollback()
            assert await migrating == migrate.head()


async def _waits(engine: AsyncEngine) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation')"
    async with engine.connect() as connection:
        return bool(await connection.scalar(text(query)))


async def test_an_index_whose_build_was_interrupted_is_built_again(own_servers: Servers) -> None:
    async with _engine(own_servers) as engine:
        await _up_to(engine, "0003")
        async with engine.begin() as connection:
            await connection.execute(text("CREATE INDEX ix_customers_figures ON customers (id)"))
        await migrate.upgrade(asyncpg_url(own_servers.database_url))
        async with engine.connect() as connection:
            definition = await connection.scalar(
                text("SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_customers_figures'")
            )
    assert "USING brin" in (definition or "")


@pytest.mark.parametrize(
    ("before", "over"),
    [
        ("SELECT 1", False),
        ("INSERT INTO audit (actor, action) VALUES ('a test', 'customer.updated')", False),
        (f"INSERT INTO users {_USER}", True),
        (f"INSERT INTO api_keys {_KEY}", True),
        ("INSERT INTO audit (actor, action) VALUES ('a test', 'key.created')", True),
    ],
)
async def test_local_mode_is_over_where_a_key_or_a_user_ever_existed(
    own_servers: Servers, before: str, *, over: bool
) -> None:
    async with _engine(own_servers) as engine:
        await _up_to(engine, _before("0013"))
        async with engine.begin() as connection:
            await connection.execute(text(before))
            await connection.execute(text("DELETE FROM users"))
        await _up_to(engine, "0013")
        async with engine.connect() as connection:
            query = text("SELECT sign_in_since IS NOT NULL FROM installation")
            assert await connection.scalar(query) is over


async def test_former_emails_from_before_their_table_are_taken_from_the_audit(
    own_servers: Servers,
) -> None:
    async with _engine(own_servers) as engine:
        await _up_to(engine, "0007")
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO customers (email, email_key, date_created)"
                    " VALUES ('b@x.org', 'b@x.org', now()), ('c@x.org', 'c@x.org', now())"
                )
            )
            for number, old, new in ((1001, "A@x.org", "b@x.org"), (1002, "b@x.org", "c@x.org")):
                await connection.execute(
                    text(
                        "INSERT INTO audit (actor, action, customer_id, details) VALUES ('a test',"
                        " 'customer.updated', :id, jsonb_build_object('email',"
                        " jsonb_build_array(CAST(:old AS text), CAST(:new AS text))))"
                    ),
                    {"id": number, "old": old, "new": new},
                )
        await _up_to(engine, "0008")
        async with engine.connect() as connection:
            found = await connection.execute(
                text("SELECT email_key, customer_id FROM former_emails")
            )
            assert [tuple(row) for row in found] == [("a@x.org", 1001)]


async def test_identifiers_are_taken_from_emails_and_put_into_their_normal_form(
    own_servers: Servers,
) -> None:
    async with _engine(own_servers) as engine:
        await _up_to(engine, "0016")
        async with engine.begin() as connection:
            for email in (
                "Ann@x.org",
                "jane@bücher.example",
                "jane@xn--bcher-kva.example",
                "joe@köln.example",
            ):
                await connection.execute(
                    text(
                        "INSERT INTO customers (email, email_key, date_created)"
                        " VALUES (:email, :key, now())"
                    ),
                    {"email": email, "key": email.lower()},
                )
            await connection.execute(
                text("INSERT INTO former_emails (email_key, customer_id) VALUES ('a@x.org', 1001)")
            )
        await _up_to(engine, "0018")
        async with engine.begin() as connection:
            found = await connection.execute(
                text("SELECT identifier, customer_id FROM identifiers ORDER BY 2, 1")
            )
            assert [tuple(row) for row in found] == [
                ("email:a@x.org", 1001),
                ("email:ann@x.org", 1001),
                ("email:jane@xn--bcher-kva.example", 1003),
                ("email:joe@xn--kln-sna.example", 1004),
            ]
            due = await connection.execute(text("SELECT low, high FROM pending_merges"))
            assert [tuple(row) for row in due] == [(1002, 1003)]
            emails = await connection.execute(
                text("SELECT email, email_key FROM customers ORDER BY id")
            )
            assert [tuple(row) for row in emails] == [
                ("Ann@x.org", "ann@x.org"),
                (None, None),
                ("jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"),
                ("joe@xn--kln-sna.example", "joe@xn--kln-sna.example"),
            ]


async def test_processes_of_the_release_before_keep_identifiers_up_to_date(
    own_servers: Servers,
) -> None:
    async with _engine(own_servers) as engine:
        await _up_to(engine, "0018")
        create = text(
            "INSERT INTO customers (email, email_key, date_created)"
            " VALUES (CAST(:email AS text), CAST(:email AS text), now()) RETURNING id"
        )
        async with engine.begin() as connection:
            await connection.execute(create, {"email": "ann@x.org"})
            await connection.execute(
                text(
                    "INSERT INTO identifiers (identifier, customer_id)"
                    " VALUES ('email:bob@x.org', 1001)"
                )
            )
            await connection.execute(create, {"email": "bob@x.org"})
            found = await connection.execute(
                text("SELECT identifier, customer_id FROM identifiers ORDER BY 1")
            )
            assert [tuple(row) for row in found] == [
                ("email:ann@x.org", 1001),
                ("email:bob@x.org", 1001),
            ]
            due = await connection.execute(text("SELECT low, high FROM pending_merges"))
            assert [tuple(row) for row in due] == [(1001, 1002)]


async def test_orders_of_the_release_before_are_counted_again_by_workers(
    own_servers: Servers,
) -> None:
    """It counted no order that a word calls refunded, and all others, whatever was refunded."""
    order = text(
        "INSERT INTO orders (id, version, updated_at, event_id, status, payment_status, total,"
        " refunded, date_created, customer_id, named_version, named_at, named_event_id)"
        " VALUES (:id, 1, '2026-11-01Z', 'e', :status, :payment, 100, :refunded, '2026-11-01Z',"
        " :customer, 1, '2026-11-01Z', 'e')"
    )
    orders = {
        "HALF-BY-STATUS": ("refunded", "paid", 50, 1001),
        "HALF-BY-PAYMENT": ("completed", "refunded", 50, 1001),
        "WHOLE-IN-PARTS": ("completed", "partially_refunded", 100, 1001),
        "WHOLE": ("refunded", "refunded", 100, 1001),
        "PAID": ("completed", "paid", 0, 1001),
        "NOBODYS": ("completed", "refunded", 30, None),
    }
    async with _engine(own_servers) as engine:
        await _up_to(engine, "0018")
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO customers (email, email_key, date_created, total_orders,"
                    " total_spent, first_order_date, last_order_date, segment_sequence)"
                    " VALUES ('a@x.org', 'a@x.org', '2026-11-01Z', 2, 100, '2026-11-01Z',"
                    " '2026-11-01Z', 1)"
                )
            )
            for id_, (status, payment, refunded, customer) in orders.items():
                row = {"status": status, "payment": payment, "refunded": refunded}
                await connection.execute(order, {"id": id_, "customer": customer, **row})
            await connection.execute(
                text(
                    "UPDATE orders SET named_at = NULL, named_version = NULL,"
                    " named_event_id = NULL WHERE customer_id IS NULL"
                )
            )
        await _up_to(engine, "head")
        async with engine.connect() as connection:
            findings, _ = await database_findings(connection)
            assert findings[0].faults == []
        while await in_transaction(engine, advance):
            pass
        async with engine.connect() as connection:
            counted = await connection.execute(text("SELECT id FROM orders WHERE counts"))
            assert set(counted.scalars()) == {
                "HALF-BY-STATUS",
                "HALF-BY-PAYMENT",
                "PAID",
                "NOBODYS",
            }
            query = text("SELECT total_orders, total_spent FROM customers")
            assert tuple((await connection.execute(query)).one()) == (3, 200)
            totals = text("SELECT sum(orders), sum(revenue) FROM daily_totals")
            # The release before had not counted any of these by day.
            assert tuple((await connection.execute(totals)).one()) == (2, 170)
            findings, _ = await database_findings(connection)
            assert findings[0].faults == []


async def test_who_was_removed_before_there_were_removals_is_announced(
    own_servers: Servers,
) -> None:
    change = (
        "INSERT INTO segment_changes (customer_id, sequence, segment, cause, settings_version,"
        " total_orders, total_spent, changed_at) VALUES (:id, :sequence, 'new', 'order', 1, 1, 1,"
        " now())"
    )
    async with _engine(own_servers) as engine:
        await _up_to(engine, _before("0016"))
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO customers (email, email_key, date_created)"
                    " VALUES ('b@x.org', 'b@x.org', now())"
                )
            )
            for number in (1001, 1002, 1003):
                for sequence in (1, 2):
                    await connection.execute(text(change), {"id": number, "sequence": sequence})
            await connection.execute(
                text(
                    "INSERT INTO audit (actor, action, customer_id, at)"
                    " VALUES ('a test', 'customer.erased', 1002, '2026-11-01Z')"
                )
            )
        await _up_to(engine, "0016")
        async with engine.connect() as connection:
            found = await connection.execute(
                text(
                    "SELECT customer_id, reason, removed_at = '2026-11-01Z', publish_number"
                    " FROM removals ORDER BY customer_id"
                )
            )
            assert [tuple(row) for row in found] == [
                (1002, "erased", True, None),
                (1003, "erased", False, None),
            ]


async def test_dead_letters_from_before_their_bounds_wait_to_be_measured(
    own_servers: Servers,
) -> None:
    """A revision that was cut short while it built an index runs again from its beginning."""
    async with _engine(own_servers) as engine:
        await _up_to(engine, "0010")
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO dead_letters"
                    " (stream_id, field_names, field_values, reason, error, digest)"
                    " VALUES ('1-0', ARRAY[CAST('data' AS bytea)], ARRAY[CAST('{' AS bytea)],"
                    " 'not_json', 'bad', '')"
                )
            )
            await connection.execute(text("ALTER TABLE dead_letters ADD COLUMN size bigint"))
        await _up_to(engine, "0011")
        async with engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT size, stored, identifiers, field_values FROM dead_letters")
            )
            assert [tuple(row) for row in rows] == [(None, None, None, [b"{"])]
