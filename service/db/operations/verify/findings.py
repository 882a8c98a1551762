"""What a check is, what it finds, and what is to be done about it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

MOST_SHOWN = 20
"""The greatest number of rows that one check returns."""

REBUILD = "`crm rebuild --apply` recomputes it."
REPLAY = (
    "`crm replay --since TIME`, with a time before the first entry named, has workers read them "
    "again."
)
RESTORE = (
    "Nothing else holds it: restore it from a backup. "
    "deploy/README.md says how to take back a single table."
)


class Fault(NamedTuple):
    """Something that contradicts an invariant, the rows where it does, and the remedy."""

    what: str
    """A sentence without a full stop."""
    remedy: str
    offenders: list[dict[str, Any]]


class Finding(NamedTuple):
    """The result of checking one invariant."""

    number: int
    invariant: str
    faults: list[Fault]
    """Empty if the invariant holds."""

    @property
    def offenders(self) -> list[dict[str, Any]]:
        """Return the rows of all faults."""
        return [offender for fault in self.faults for offender in fault.offenders]


class Check(NamedTuple):
    """A query for the rows that break an invariant."""

    what: str
    remedy: str
    query: TextClause
    """Its parameters may be ``now``, ``promise`` and ``most``, the greatest number of rows."""


def fault_if(offenders: Sequence[Mapping[str, Any]], what: str, remedy: str) -> list[Fault]:
    """Return a fault with these rows; none if there are no rows."""
    return [Fault(what, remedy, [dict(row) for row in offenders])] if offenders else []


async def run(
    connection: AsyncConnection, checks: Sequence[Check], parameters: Mapping[str, Any]
) -> list[Fault]:
    """Run checks one after the other, and return what they find."""
    faults: list[Fault] = []
    for what, remedy, query in checks:
        faults += fault_if(await rows(connection, query, parameters), what, remedy)
    return faults


async def rows(
    connection: AsyncConnection, query: TextClause, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of a query that needs some of the parameters."""
    wanted = _names(query)
    values = {name: value for name, value in parameters.items() if name in wanted}
    result = await connection.execute(
        query, {"most": MOST_SHOWN, **values} if "most" in wanted else values
    )
    return [dict(row) for row in result.mappings()]


@cache
def _names(query: TextClause) -> frozenset[str]:
    return frozenset(query.compile().params)
