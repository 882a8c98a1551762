"""Use a table as an outbox: the relay numbers its rows, then publishes them on a stream.

A primary key is no safe cursor, because commits become visible out of order. The publish number is
one, because only the holder of the relay's lock assigns it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.published_change import PublishedChange
from service.core.published_removal import PublishedRemoval
from service.db.locks import AdvisoryLock

CHANNEL = "segment_changes"
"""Transactions that add to an outbox notify the relay here."""
_LAST_BIGINT = 2**63 - 1
LEASE_SECONDS = 15
"""The server ends the session of a leader that sends nothing for this long, and frees its lock. The
leader may hang, or be cut off by something that keeps the connection open towards the server."""
# One statement takes the lock and sets the lease, so that no session holds the one without the
# other. A session that is cut off between the messages of one statement is not idle, but in a
# transaction: that is what the second setting ends.
# Index look-ups find a page of rows. The planner cannot know how many rows have no number. As long
# as its statistics say that the table is small, it would read all of it for each page.
_LEAD = text(f"""
SELECT CASE WHEN pg_try_advisory_lock(:lock) THEN
  set_config('idle_session_timeout', '{LEASE_SECONDS}s', false)
  || set_config('transaction_timeout', '{LEASE_SECONDS}s', false)
  || set_config('enable_hashjoin', 'off', false) || set_config('enable_mergejoin', 'off', false)
END IS NOT NULL
""")

Event = TypeVar("Event", PublishedChange, PublishedRemoval)
"""What an event of an outbox is read back as."""

REPEATED = "this database has it, too, and publishes it itself"
"""Why an entry is removed that nobody needs to know of: a restored database repeats the event."""


class OutboxEvent(NamedTuple):
    """An event, ready for its stream."""

    number: int
    id: str
    """The id in the body. An event that is published again has the same one."""
    customer_id: int
    body: bytes
    """CloudEvents JSON. An event that is published again has the same bytes."""
    traceparent: str | None


class RelayState(NamedTuple):
    """How far the relay has come with an outbox, as publish numbers."""

    numbered: int
    published: int
    trimmed: int
    """Every event up to this number was trimmed off the stream on purpose."""


class Unknown(NamedTuple, Generic[Event]):
    """An entry of the stream that looks like ours, and that this database never published."""

    number: int
    event: Event
    body: bytes


@dataclass(frozen=True)
class Outbox(Generic[Event]):
    """A table that is published on a stream of its own, and what is particular about it."""

    event: str
    """What a row is, for people: "segment change"."""
    table: str
    relay: str
    """The table whose one row says how far the relay has come."""
    columns: Sequence[str]
    """The columns that `write` needs, beside the publish number."""
    write: Callable[[Row[Any]], OutboxEvent]
    """Builds the event of a row."""
    read: Callable[[bytes, datetime], Event]
    """Reads an event back at a moment. Raises NotOursError if this service cannot have written it.
    """
    refusals: Callable[
        [AsyncConnection, Sequence[Unknown[Event]], int], Awaitable[list[str | None]]
    ]
    """Returns for each unknown entry why it cannot be ours after all, or None."""
    on_unknown: str
    """What becomes of unknown entries, and what to do: for the log."""
    keep: Callable[[AsyncConnection, Sequence[Unknown[Event]]], Awaitable[None]] | None = None
    """Keeps unknown entries for a person, who decides. If None, they are removed from the stream.
    """
    holds: str | None = None
    """A table of customers, as ``customer_id``, whose rows must wait. It is nearly always empty."""

    @cached_property
    def _numbered(self) -> TextClause:
        return text(f"{self._select} ORDER BY publish_number LIMIT :most")

    @cached_property
    def _between(self) -> TextClause:
        return text(
            f"{self._select} AND publish_number <= :until ORDER BY publish_number LIMIT :most"
        )

    @property
    def _select(self) -> str:
        columns = ", ".join(self._columns)
        return f"SELECT {columns} FROM {self.table} WHERE publish_number > :after"

    @property
    def _columns(self) -> tuple[str, ...]:
        return ("publish_number", *self.columns)

    @cached_property
    def _ahead(self) -> TextClause:
        """A query for whether rows have a later number, have none, and whether some must wait.

        An idle relay asks nothing else.
        """
        held = f"EXISTS (SELECT FROM {self.holds})" if self.holds else "false"
        return text(f"""
SELECT EXISTS (SELECT FROM {self.table} WHERE publish_number > :after) AS numbered,
  (SELECT id FROM {self.table} WHERE publish_number IS NULL ORDER BY id LIMIT 1) IS NOT NULL
    AS waiting, {held} AS held""")

    @cached_property
    def _number_next(self) -> TextClause:
        return self._numbering("")

    @cached_property
    def _number_next_not_held(self) -> TextClause:
        # Without the condition, the statement reads the waiting rows and no others, whatever the
        # planner expects. So it is used whenever nobody has to wait.
        return self._numbering(
            f"AND NOT EXISTS (SELECT FROM {self.holds} u WHERE u.customer_id = s.customer_id)"
        )

    def _numbering(self, condition: str) -> TextClause:
        """Return the statement that numbers the next rows and returns them, in no order.

        The update finds each row by its place (ctid): one look-up per row, whatever size the
        planner expects the table to have. With a join by id, a plan made while the table was empty
        read all of it for each row of a page. A place stays valid until the update, because nobody
        else writes to rows that have no number.
        """
        return text(f"""
WITH next AS MATERIALIZED (
  SELECT place, row_number() OVER (ORDER BY id) AS nth FROM (
    SELECT ctid AS place, id FROM {self.table} s
    WHERE publish_number IS NULL {condition} ORDER BY id LIMIT :most
  ) waiting
),
base AS (
  UPDATE {self.relay} SET numbered = numbered + (SELECT count(*) FROM next)
  WHERE EXISTS (SELECT FROM next)
  RETURNING old.numbered
)
UPDATE {self.table} s SET publish_number = base.numbered + next.nth
FROM next CROSS JOIN base WHERE s.ctid = next.place
RETURNING {", ".join(f"s.{column}" for column in self._columns)}
""")

    async def state(self, connection: AsyncConnection) -> RelayState:
        """Return how far the relay has come."""
        query = text(f"SELECT numbered, published, trimmed FROM {self.relay}")
        return RelayState(*(await connection.execute(query)).one())

    async def next_page(
        self, connection: AsyncConnection, after: int, most: int
    ) -> list[OutboxEvent]:
        """Return events after publish number ``after``; if there are none, number new ones first.

        Writes nothing if there is nothing to number.
        """
        ahead = (await connection.execute(self._ahead, {"after": after})).one()
        rows: Sequence[Row[Any]] = ()
        if ahead.numbered:
            rows = (await connection.execute(self._numbered, {"after": after, "most": most})).all()
        elif ahead.waiting:
            number = self._number_next_not_held if ahead.held else self._number_next
            numbered = (await connection.execute(number, {"most": most})).all()
            rows = sorted(numbered, key=attrgetter("publish_number"))
        return [self.write(row) for row in rows]

    async def numbered_between(
        self, connection: AsyncConnection, after: int, until: int, most: int
    ) -> list[OutboxEvent]:
        """Return numbered events after publish number ``after`` and up to ``until``."""
        until = min(until, _LAST_BIGINT)
        rows = await connection.execute(
            self._between, {"after": after, "until": until, "most": most}
        )
        return [self.write(row) for row in rows.all()]

    async def mark_published(self, connection: AsyncConnection, number: int) -> None:
        """Store that the stream holds every event up to ``number`` and none beyond."""
        await connection.execute(
            text(f"UPDATE {self.relay} SET published = :number"), {"number": number}
        )

    async def mark_trimmed(self, connection: AsyncConnection, number: int) -> None:
        """Store that events up to ``number`` were trimmed off the stream.

        If Redis loses the rest, these are not published again. The first entry that is left may be
        somebody else's, with any id.
        """
        await connection.execute(
            text(f"UPDATE {self.relay} SET trimmed = GREATEST(trimmed, LEAST(:number, published))"),
            {"number": min(number, _LAST_BIGINT)},
        )

    async def renumber_beyond(
        self, connection: AsyncConnection, published: int, number: int
    ) -> None:
        """Make publish numbers continue above ``number``.

        Rows that were numbered after ``published`` get new numbers.
        """
        await connection.execute(
            text(f"UPDATE {self.table} SET publish_number = NULL WHERE publish_number > :after"),
            {"after": published},
        )
        await connection.execute(
            text(
                f"UPDATE {self.relay}"
                " SET numbered = GREATEST(numbered, :number), published = :number"
            ),
            {"number": number},
        )


async def lead(connection: AsyncConnection, lock: AdvisoryLock = AdvisoryLock.RELAY) -> bool:
    """Try to hold a lock while the connection lives; return whether that worked.

    Whoever has it is the one relay, or, with `AdvisoryLock.DELIVERIES`, sends to endpoints.
    """
    return bool((await connection.execute(_LEAD, {"lock": lock})).scalar_one())
