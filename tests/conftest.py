"""The servers of a test run, and a service on them that is empty when a test starts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Any, TypeVar

import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis
from sqlalchemy import Table, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.orders import judge_all
from service.config import Config
from service.core.batch import Outcome
from service.core.envelope import Entry
from service.db import migrate
from service.db.engine import create_engine, in_transaction
from service.db.figures import each_figure
from service.db.grants import VERIFY, WEB, WORKER
from service.db.ingest.ingest import ingest
from service.db.ingest.owners import OwnerChangedError
from service.db.operations.out_streams import out_streams
from service.db.operations.verify import Report, verify
from service.db.operations.verify.findings import Finding
from service.db.schema import metadata
from service.streams import redis_client
from tests.servers import Servers, servers
from tests.time_limits import (  # noqa: F401  hooks of pytest
    pytest_collection_modifyitems,
    pytest_runtest_call,
    pytest_timeout_set_timer,
)
from tests.wait import until

# The same examples in each run: a change is never refused for a fault that another run would not
# find. `make search` looks for new ones. An example that fails is shown as it is: to look for the
# smallest one takes up to five minutes. `--hypothesis-profile=default` does both.
hypothesis_settings.register_profile(
    "repeatable", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
hypothesis_settings.load_profile("repeatable")

T = TypeVar("T")

_KEPT = {
    "segment_counters": each_figure("{figure} = 0"),
    "ingest_counters": """read = 0, applied = 0, stale = 0, duplicate = 0, conflict = 0,
       dead_lettered = 0, batches = 0, seconds = 0, size_buckets = array_fill(0, ARRAY[6]),
       seconds_buckets = array_fill(0, ARRAY[11])""",
    "relay": "numbered = 0, published = 0, trimmed = 0",
    "removals_relay": "numbered = 0, published = 0, trimmed = 0",
    "sweep": "swept_until = now()",
    "insight_refresh": """fit_wanted_at = NULL, model = NULL, next_id = 0, begun_at = NULL,
       busy = 0, orders = NULL, revenue = NULL, completed_at = NULL, took = NULL,
       expected_orders = NULL, expected_revenue = NULL""",
    "installation": "ids_replaced = 0, erasures = 0, late_events = 0, reassignments = 0",
}
"""Tables whose rows are never deleted, and the values of these rows in an empty service."""
_OTHERS = [
    table
    for table in metadata.sorted_tables
    if table.name not in {*_KEPT, "settings", "daily_generations"}
]


def _used(table: Table) -> str:
    """Return a query that yields the table's name if it was written to since it was emptied.

    Nearly all tables are empty. Truncating them anyway took a tenth of the suite's time.
    """
    numbered = [column.name for column in table.columns if column.identity]
    sequences = "".join(
        f" OR pg_sequence_last_value(CAST(pg_get_serial_sequence('{table.name}', '{name}')"
        " AS regclass)) IS NOT NULL"
        for name in numbered
    )
    return f"SELECT '{table.name}' WHERE EXISTS (SELECT FROM {table.name}){sequences}"


_USED = text(" UNION ALL ".join(map(_used, _OTHERS)))
_RESET = [
    *(f"UPDATE {table} SET {values}" for table, values in _KEPT.items()),
    "DELETE FROM settings WHERE version > 1",
    "UPDATE settings SET changed_by = 'installation'",
    "UPDATE installation SET sign_in_since = NULL, store_currency = NULL",
    "DELETE FROM daily_generations",
    """INSERT INTO daily_generations (generation, time_zone, counted_at)
       OVERRIDING SYSTEM VALUE VALUES (0, 'UTC', now())""",
]


_READ_KEPT = text(
    "SELECT "
    + ", ".join(f"(SELECT CAST(json_agg(t) AS text) FROM {table} t) AS {table}" for table in _KEPT)
)
_RESTORE_KEPT = text(
    "WITH "
    + ", ".join(
        f"""restored_{table} AS (
            INSERT INTO {table}
            SELECT * FROM json_populate_recordset(CAST(NULL AS {table}), CAST(:{table} AS json))
            ON CONFLICT DO NOTHING)"""
        for table in _KEPT
    )
    + " SELECT"
)


async def _read_kept(connection: AsyncConnection) -> dict[str, str]:
    return dict((await connection.execute(_READ_KEPT)).mappings().one())


async def _empty(connection: AsyncConnection, kept: Mapping[str, str]) -> None:
    if used := (await connection.execute(_USED)).scalars().all():
        await connection.execute(text(f"TRUNCATE {', '.join(used)} RESTART IDENTITY CASCADE"))
    if kept:
        await connection.execute(_RESTORE_KEPT, kept)
    for statement in _RESET:
        await connection.execute(text(statement))


@dataclass(frozen=True)
class Service:
    """The parts of the service, which a test drives one by one.

    ``config`` and ``engine`` have the rights of a worker. A test's own statements run as the owner.
    """

    config: Config
    engine: AsyncEngine
    owner: AsyncEngine
    verifier: AsyncEngine
    redis: Redis
    servers: Servers
    kept: Mapping[str, str] = field(default_factory=dict)
    """The rows of a new service that are never deleted, as JSON, by table. `empty` brings them back
    if a test that failed has left them deleted."""

    @property
    def web_config(self) -> Config:
        """The same configuration with the rights of a web process."""
        return self.config.model_copy(update={"database_url": self.servers.url_of(WEB)})

    async def ingest(
        self, *entries: Entry, now: datetime | None = None, repeats_expected: bool = False
    ) -> dict[Outcome, int]:
        """Judge and apply entries as one batch, as a worker does."""
        batch = judge_all(entries, self.config)
        return await in_transaction(
            self.engine,
            lambda connection: ingest(connection, batch, now, repeats_expected=repeats_expected),
            retry_on=(OwnerChangedError,),
        )

    async def in_transaction(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Call ``work(connection, *args)`` in a transaction, with the rights of a worker."""
        return await in_transaction(self.engine, work, *args)

    async def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """Read rows as dictionaries."""
        async with self.owner.connect() as connection:
            result = await connection.execute(text(query), parameters)
            return [dict(row) for row in result.mappings()]

    async def execute(self, statement: str, **parameters: Any) -> None:
        """Run one statement and commit."""
        async with self.owner.begin() as connection:
            await connection.execute(text(statement), parameters)

    async def publish(self, fields: dict[bytes, bytes]) -> str:
        """XADD an entry to the orders stream, as order management does; return its id."""
        raw: Any = self.redis
        return str((await raw.xadd(self.config.orders_stream, fields)).decode())

    async def findings(self) -> list[Finding]:
        """Return the invariants that do not hold."""
        return (await self.verify()).broken

    async def verify(self) -> Report:
        """Check all invariants, as `crm verify` does."""
        return await verify(
            self.verifier,
            self.redis,
            orders=self.config.orders_streams,
            group=self.config.orders_group,
            published=out_streams(self.config),
            terms=self.config.terms,
        )

    async def empty(self) -> None:
        """Empty the database and Redis."""
        # A process that the last test used may still answer: then they wait for each other.
        await in_transaction(self.owner, _empty, self.kept)
        await self.redis.flushall()


@pytest.fixture(scope="session")
def real_servers() -> Iterator[Servers]:
    """Start the servers of this run, or use those that the environment names."""
    with servers() as running:
        yield running


def _write_as_an_earlier_release(connection: Any, _record: object) -> None:
    """Have triggers write `identifiers` for a test's own statements."""
    cursor = connection.cursor()
    cursor.execute("SET crm.identifiers = ''")
    connection.commit()


@pytest.fixture(scope="session")
async def migrated(real_servers: Servers) -> AsyncIterator[Service]:
    """Migrate the database once, and connect to it and to Redis."""
    config = Config(
        database_url=real_servers.url_of(WORKER),
        redis_url=real_servers.service_redis_url or real_servers.redis_url,
        reclaim_idle_seconds=0.3,
        drain_seconds=10,
        sweep_seconds=0.2,
        rate_limit_burst=1_000_000,
    )
    await migrate.upgrade(real_servers.database_url)
    engine, owner, verifier = (
        create_engine(url, application="crm tests", pool_size=10)
        for url in (
            real_servers.url_of(WORKER),
            real_servers.database_url,
            real_servers.url_of(VERIFY),
        )
    )
    event.listen(owner.sync_engine, "connect", _write_as_an_earlier_release)
    redis = redis_client.connect(real_servers.redis_url)
    kept = await in_transaction(owner, _read_kept)
    yield Service(config, engine, owner, verifier, redis, real_servers, kept)
    await redis.aclose()
    for each in (engine, owner, verifier):
        await each.dispose()


@pytest.fixture
async def empty_service(migrated: Service) -> Service:
    """Return an empty service for a test that breaks invariants on purpose."""
    await migrated.empty()
    return migrated


@pytest.fixture
async def service(empty_service: Service) -> AsyncIterator[Service]:
    """Yield an empty service; whatever the test does, its invariants hold afterwards."""
    yield empty_service
    assert await empty_service.findings() == []


@pytest.fixture
async def now() -> datetime:
    """Return the present, at least a minute before midnight.

    Days are those of UTC. If one ended during a test, the test and the service would mean two
    different days by "today".
    """

    async def is_early_enough() -> bool:
        return (datetime.now(UTC) + timedelta(minutes=1)).date() == datetime.now(UTC).date()

    await until(is_early_enough, 90)
    return datetime.now(UTC)


@pytest.fixture
def rng() -> Random:
    """Return a random generator; pytest shows its seed when the test fails."""
    seed = SystemRandom().randrange(2**32)
    print(f"Random({seed})")  # noqa: T201
    return Random(seed)
