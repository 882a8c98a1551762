"""What a mend is, and how one is applied."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.db.engine import in_transaction
from service.db.locks import read_clock
from service.db.operations.status import SWEEP_PROMISE
from service.db.operations.verify.findings import rows
from service.db.segments.sweep import OVERLAP

CHUNK = 2000
"""Rows that a mend writes in one transaction, if it goes chunk by chunk."""

Write = Callable[[AsyncConnection], Awaitable[int]]
"""Writes what is right. Returns how many rows were wrong. The caller commits."""


class Mended(NamedTuple):
    """Something that was wrong, and that is mended, or would be."""

    what: str
    rows: int
    """How many rows were mended. Without `--apply`: how many examples were found."""
    examples: list[dict[str, Any]]
    then: str = ""
    """What else is to be done."""


class Mend(NamedTuple):
    """A way to mend one kind of fault."""

    what: str
    find: Callable[[AsyncConnection], Awaitable[list[dict[str, Any]]]]
    """Returns some of the rows that are wrong."""
    write: Write
    then: str = ""


async def mend(engine: AsyncEngine, step: Mend, *, apply: bool) -> list[Mended]:
    """Find out whether something is wrong. With ``apply``, mend it.

    The list is empty if nothing was wrong, or if nothing of it could be mended.
    """
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        examples = await step.find(connection)
    if not examples:
        return []
    changed = len(examples)
    if apply:
        changed = chunk = await in_transaction(engine, step.write)
        while chunk >= CHUNK:
            chunk = await in_transaction(engine, step.write)
            changed += chunk
    return [Mended(step.what, changed, examples, step.then)] if changed else []


async def find(query: TextClause, connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return the rows of the query of a check."""
    now = await read_clock(connection)
    return await rows(connection, query, {"now": now, "promise": SWEEP_PROMISE, "overlap": OVERLAP})


async def execute(statement: TextClause, connection: AsyncConnection) -> int:
    """Run a statement; return how many rows it wrote."""
    return int((await connection.execute(statement)).rowcount)


def by(query: TextClause) -> Callable[[AsyncConnection], Awaitable[list[dict[str, Any]]]]:
    """Return a function that finds what is wrong by the query of a check."""
    return partial(find, query)
