"""Faults of operation: a backlog piles up, the schema changes."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

import migrations
from consumers.tasks import end
from service.config import asyncpg_url
from service.db import migrate
from tests.system.chaos.faults.registry import fault
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage

_FLAT = 1.2
_SLACK_BYTES = 48 << 20

_REVISION = """
from alembic import op
import sqlalchemy as sa

revision = "chaos_{table}"
down_revision = "{before}"
branch_labels = depends_on = None


def upgrade():
    op.add_column("{table}", sa.Column("chaos", sa.Integer()))


def downgrade():
    op.drop_column("{table}", "chaos")
"""


@fault("backlog drained in flat memory", "worker")
@contextlib.asynccontextmanager
async def backlog(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    async with stage.crew.without_workers():
        await stage.publishers.backlog(stage.backlog)
    await stage.crew.ready()
    early: list[int] = []
    late: list[int] = []

    async def watch() -> None:
        while True:
            with contextlib.suppress(*AWAY):
                waiting = await stage.lag()
                (early if waiting > stage.backlog * 3 // 4 else late).append(stage.crew.memory())
            await asyncio.sleep(0.1)

    watcher = asyncio.create_task(watch())
    try:
        await stage.recovered(BOUND_SECONDS + stage.backlog / 500)
    finally:
        await end([watcher])
    at_first = max(early or late[:1])
    assert max(late) <= at_first * _FLAT + _SLACK_BYTES, (at_first, max(late))
    stage.notes["largest worker"] = (
        f"{at_first >> 20} MiB in the first quarter of a backlog of {stage.backlog:,},"
        f" {max(late) >> 20} MiB later"
    )
    yield


@fault("schema migrated under load, and back", "postgres")
@contextlib.asynccontextmanager
async def migrated(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    """Add a column that no code knows to each of the busiest tables, and drop it again."""
    with TemporaryDirectory() as folder:
        config = Config()
        before = head = migrate.head()
        for table in ("orders", "customers", "segment_changes"):
            revision = _REVISION.format(table=table, before=before)
            (Path(folder) / f"chaos_{table}.py").write_text(revision)
            before = f"chaos_{table}"
        home = Path(migrations.__file__).parent
        config.set_main_option("script_location", str(home))
        config.set_main_option("version_locations", f"{home / 'versions'}\n{folder}")
        config.set_main_option("path_separator", "newline")
        await _run(stage, config, lambda: command.upgrade(config, before))
        try:
            await stage.recovered()
            yield
        finally:
            await _run(stage, config, lambda: command.downgrade(config, head))


async def _run(stage: Stage, config: Config, work: Callable[[], None]) -> None:
    engine = create_async_engine(asyncpg_url(stage.servers.database_url))

    def on(connection: Connection) -> None:
        config.attributes["connection"] = connection
        work()

    try:
        async with engine.connect() as connection:
            await connection.run_sync(on)
            await connection.commit()
    finally:
        await engine.dispose()
