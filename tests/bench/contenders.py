"""The contenders: how each is started, how far it is, and the totals it ended with."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.streams import groups
from tests.bench.peers import database_only, shop, stream_processor
from tests.conftest import Service

FOLDER = Path(tempfile.gettempdir()) / f"crm-bench-{os.getpid()}"
"""Removed after the last run."""
RECORDED = FOLDER / "statements.pickle"
_RECOVERY = FOLDER / "recovery"


async def _keeps_nothing_else() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """A contender. ``share`` of a round's events is what it gets, so that slow ones end in time."""

    name: str
    what: str
    commands: Sequence[Sequence[str]]
    settled: Callable[[Service], Awaitable[int]]
    """Return how many events are committed."""
    prepare: Callable[[Service], Awaitable[None]]
    clean: Callable[[Service], Awaitable[None]]
    customers: str
    """A query for e-mail, orders, money spent and segment of each customer."""
    share: float = 1.0
    relays: bool = False
    """Whether it is done only when its relay is, too."""
    forget: Callable[[], Awaitable[None]] = _keeps_nothing_else
    """Empty whatever it keeps beside its tables."""


_OURS = "SELECT email_key AS email, total_orders, total_spent, segment FROM customers"
_THEIRS = f"SELECT email, total_orders, total_spent, segment FROM {shop.SCHEMA}.customers"


def _python(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", *arguments]


async def _committed(service: Service) -> int:
    (row,) = await service.rows("SELECT CAST(sum(read) AS bigint) AS read FROM ingest_counters")
    return int(row["read"])


async def _acknowledged(service: Service) -> int:
    config = service.config
    behind = await groups.backlog(service.redis, config.orders_stream, config.orders_group)
    return (behind.entries_read or 0) - behind.pending


async def _written(service: Service) -> int:
    (row,) = await service.rows(f"SELECT events FROM {shop.SCHEMA}.progress")
    return int(row["events"])


async def _group(service: Service) -> None:
    await groups.ensure_group(
        service.redis, service.config.orders_stream, service.config.orders_group
    )


async def _shop(service: Service) -> None:
    await _group(service)
    await shop.create_tables(service.engine)


async def _empty_recovery_store() -> None:
    shutil.rmtree(_RECOVERY, ignore_errors=True)
    _RECOVERY.mkdir()
    initialise = await asyncio.create_subprocess_exec(
        *_python("bytewax.recovery", str(_RECOVERY), "1")
    )
    assert await initialise.wait() == 0


async def _stream_processor(service: Service) -> None:
    await _empty_recovery_store()
    await stream_processor.create_tables(service.engine)


async def _prepare_limit(service: Service) -> None:
    await database_only.prepare(service.engine)


async def _restore_limit(service: Service) -> None:
    await database_only.restore(service.engine)


async def _drop(service: Service) -> None:
    await service.execute(f"DROP SCHEMA IF EXISTS {shop.SCHEMA} CASCADE")


async def _nothing(_: Service) -> None:
    pass


def ours(workers: int = 1) -> Contender:
    """Return our service with that many workers."""
    return Contender(
        name="ours" if workers == 1 else f"ours × {workers}",
        what="`crm worker`" if workers == 1 else f"{workers} × `crm worker`",
        commands=[_python("service.cli", "worker")] * workers,
        settled=_committed,
        prepare=_group,
        clean=_nothing,
        customers=_OURS,
        relays=True,
    )


def _stream_processor_peer(name: str, what: str, flow: str) -> Contender:
    return Contender(
        name=name,
        what=what,
        commands=[
            _python(
                "bytewax.run",
                f"tests.bench.peers.stream_processor:{flow}",
                f"--recovery-directory={_RECOVERY}",
                "--snapshot-interval=10",
                "--backup-interval=0",
            )
        ],
        settled=_written,
        prepare=_stream_processor,
        clean=_drop,
        customers=_THEIRS,
        forget=_empty_recovery_store,
    )


PEERS = (
    Contender(
        name="A",
        what="FastStream handler per message, pydantic, ORM session",
        commands=[_python("tests.bench.peers.per_message")],
        settled=_acknowledged,
        prepare=_shop,
        clean=_drop,
        customers=_THEIRS,
        share=0.015,
    ),
    Contender(
        name="B",
        what="FastStream batches, SQLAlchemy Core executemany",
        commands=[_python("tests.bench.peers.batches")],
        settled=_acknowledged,
        prepare=_shop,
        clean=_drop,
        customers=_THEIRS,
    ),
    _stream_processor_peer("C", "Bytewax with its recovery store, executemany", "flow"),
    _stream_processor_peer(
        "C+", "Bytewax that also writes history, counters and an outbox", "flow_with_outbox"
    ),
    Contender(
        name="D",
        what="the limit: the database's share of ours, from memory",
        commands=[_python("tests.bench.peers.database_only", str(RECORDED))],
        settled=_committed,
        prepare=_prepare_limit,
        clean=_restore_limit,
        customers=_OURS,
    ),
)
