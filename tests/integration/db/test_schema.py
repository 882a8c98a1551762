"""The migrations create exactly the tables that the code declares."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.order_event import REGISTERS
from service.db import migrate
from service.db.engine import create_patient_engine, refused_data
from service.db.schema import metadata
from tests.conftest import Service
from tests.events import entry

T = TypeVar("T")

# The order of columns is not compared: a migration can only append one, and nothing relies on it.
CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
          l.collname, a.attnotnull, a.attidentity, a.attgenerated,
          pg_get_expr(d.adbin, d.adrelid) AS default, col_description(c.oid, a.attnum) AS comment
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
          AND a.attnum > 0""",
    "constraints": """
        SELECT c.relname, n.conname, n.contype, pg_get_constraintdef(n.oid) AS definition,
          n.convalidated
        FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid
        WHERE c.relnamespace = current_schema()::regnamespace""",
    "indexes": """
        SELECT tablename AS relname, indexname, indexdef FROM pg_indexes
        WHERE schemaname = current_schema()""",
    "tables": """
        SELECT relname, reloptions, relpersistence, obj_description(oid) AS comment
        FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'""",
    "sequences": """
        SELECT sequencename AS relname, data_type, start_value, min_value, max_value, increment_by
        FROM pg_sequences WHERE schemaname = current_schema()""",
    "others": """
        SELECT proname AS relname, 'function' AS kind, pg_get_function_arguments(p.oid) AS takes,
          pg_get_function_sqlbody(p.oid) AS body, provolatile, proparallel
        FROM pg_proc p
        WHERE pronamespace = current_schema()::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
        UNION ALL SELECT tgname, 'trigger', NULL, NULL, NULL, NULL
        FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
        WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace
        UNION ALL SELECT relname, relkind::text, NULL, NULL, NULL, NULL FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind NOT IN ('r', 'i', 'S')""",
}


async def catalog(connection: AsyncConnection) -> dict[str, set[tuple[str, ...]]]:
    """Return everything in the current schema except Alembic's own table."""
    name = (await connection.execute(text("SELECT current_schema()"))).scalar_one()
    return {
        part: {
            tuple(str(value).replace(f"{name}.", "") for value in row)
            for row in await connection.execute(text(query))
            if row.relname not in {"alembic_version", "alembic_version_pkc"}
        }
        for part, query in CATALOG.items()
    }


class OtherSchema:
    """An empty schema in the same database that no other test uses."""

    def __init__(self, url: str, name: str) -> None:
        self.url = f"{url}?options=-c%20search_path%3D{name},public"

    async def run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        engine = create_patient_engine(self.url, application="crm tests")
        try:
            async with engine.begin() as connection:
                return await work(connection)
        finally:
            await engine.dispose()


@pytest.fixture
async def other_schema(migrated: Service) -> AsyncIterator[OtherSchema]:
    name = f"other_{uuid4().hex}"
    await migrated.execute(f"CREATE SCHEMA {name}")
    # Extensions are in `public`, so it must be on the search path. Then Alembic would find its own
    # table in `public`, unless this schema has one.
    await migrated.execute(f"CREATE TABLE {name}.alembic_version (LIKE alembic_version)")
    yield OtherSchema(migrated.servers.database_url, name)
    await migrated.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.mark.filterwarnings("ignore:Computed default")  # Alembic warns even without a change
async def test_alembic_finds_nothing_left_to_migrate(migrated: Service) -> None:
    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    async with migrated.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrations_create_exactly_the_declared_tables(
    migrated: Service, other_schema: OtherSchema
) -> None:
    async def create(connection: AsyncConnection) -> None:
        await connection.run_sync(metadata.create_all, checkfirst=False)

    await other_schema.run(create)
    declared = await other_schema.run(catalog)
    async with migrated.engine.connect() as connection:
        migrated_catalog = await catalog(connection)
    for part, rows in declared.items():
        assert migrated_catalog[part] - rows == set(), f"{part} that only the migrations create"
        assert rows - migrated_catalog[part] == set(), f"{part} that only the code declares"
    assert len(declared["columns"]) > 80


async def test_columns_compared_as_keys_sort_as_python_does(migrated: Service) -> None:
    rows = await migrated.rows(
        "SELECT c.relname || '.' || a.attname AS name, l.collname"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_collation l ON l.oid = a.attcollation"
        " WHERE c.relname IN ('customers', 'orders') AND a.attnum > 0"
        " AND (a.attname = 'email_key' OR a.attname LIKE '%event%'"
        "      OR c.relname = 'orders' AND a.attname = 'id')"
    )
    assert {row["name"]: row["collname"] for row in rows} == dict.fromkeys(
        (
            *(f"customers.{register}_event" for register in REGISTERS),
            "customers.email_key",
            "orders.event_id",
            "orders.id",
            "orders.named_event_id",
        ),
        "C",
    )


def _downgrade_to_base(connection: Connection) -> None:
    config = migrate._alembic()
    config.attributes["connection"] = connection
    command.downgrade(config, "base")


async def test_downgrading_leaves_nothing_and_upgrading_restores_everything(
    other_schema: OtherSchema,
) -> None:
    assert await other_schema.run(migrate.current) is None
    assert await migrate.upgrade(other_schema.url) == migrate.head()
    upgraded = await other_schema.run(catalog)
    await other_schema.run(lambda connection: connection.run_sync(_downgrade_to_base))
    empty = await other_schema.run(catalog)
    assert not any(empty.values()), empty
    assert await other_schema.run(migrate.current) is None
    await migrate.upgrade(other_schema.url)
    assert await other_schema.run(catalog) == upgraded
    assert await other_schema.run(migrate.current) == migrate.head()


async def test_simultaneous_upgrades_take_turns(other_schema: OtherSchema) -> None:
    heads = await asyncio.gather(*(migrate.upgrade(other_schema.url) for _ in range(3)))
    assert heads == [migrate.head()] * 3

    async def single_rows(connection: AsyncConnection) -> list[Any]:
        query = (
            "SELECT (SELECT count(*) FROM relay), (SELECT count(*) FROM sweep),"
            " (SELECT count(*) FROM settings), (SELECT count(*) FROM segment_counters),"
            " (SELECT count(*) FROM ingest_counters)"
        )
        return list((await connection.execute(text(query))).one())

    assert await other_schema.run(single_rows) == [1, 1, 1, 40, 8]


async def test_upgrading_a_current_schema_changes_nothing(migrated: Service) -> None:
    async with migrated.engine.connect() as connection:
        before = await catalog(connection)
    await migrate.upgrade(migrated.servers.database_url)
    async with migrated.engine.connect() as connection:
        assert await catalog(connection) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET total = 'NaN'",
        "UPDATE orders SET total = 1000000000000",
        "UPDATE orders SET refunded = -0.01",
        "UPDATE orders SET most_refunded = refunded",
        "UPDATE orders SET currency = 'euro'",
        "UPDATE orders SET exchange_rate = 1",
        "UPDATE customers SET total_spent = 'NaN'",
        "UPDATE customers SET total_spent = -0.01",
        "UPDATE customers SET total_orders = -1",
        "UPDATE customers SET total_orders = 0",
        "UPDATE customers SET last_order_date = NULL",
        "UPDATE customers SET segment = 'gold'",
        "UPDATE customers SET segment_manual = true",
        "UPDATE customers SET segment_pinned = true",
        "UPDATE customers SET segment_held_since = now()",
        "UPDATE segment_changes SET previous = 'gold'",
        "UPDATE installation SET salt = salt || 'x'",
        "UPDATE installation SET salt_digest = NULL",
        "INSERT INTO settings_changes (version, total, examined, moved) VALUES (9, 2, 1, 2)",
        "UPDATE segment_changes SET sequence = 0",
        "UPDATE segment_changes SET cause = 'whim'",
        "UPDATE relay SET published = numbered + 1",
        "INSERT INTO relay (one, numbered, published) VALUES (false, 0, 0)",
        "INSERT INTO sweep (swept_until) VALUES (now())",
        "UPDATE settings SET at_risk_days = inactive_days",
        "UPDATE settings SET precedence = 'luck_first'",
    ],
)
async def test_the_database_itself_refuses_impossible_values(
    service: Service, statement: str
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org"))
    with pytest.raises(DBAPIError) as refusal:
        await service.execute(statement)
    assert refused_data(refusal.value)
