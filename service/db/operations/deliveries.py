"""Read what an endpoint must get next, and note how far it has come.

One process sends at a time. It holds an advisory lock on the connection on which it reads and
notes, as the relay does: if it hangs, the server ends its session, and another process goes on from
what was noted. What was sent and not noted is sent again, with the same ids.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.endpoints import GIVE_UP, EventKind
from service.db.accounts.audit import note
from service.db.customers.removals import REMOVALS
from service.db.outbox import OutboxEvent
from service.db.segments.change_outbox import CHANGES

SERVICE = "service"
"""The actor in the audit when the service itself pauses an endpoint."""

_DUE = text(f"""
SELECT e.id, e.version, e.url, e.allow_private, e.events, e.change_cursor, e.removal_cursor,
  e.failures, coalesce(GREATEST(extract(epoch FROM e.next_attempt_at - clock_timestamp()), 0), 0)
    ::float8 AS wait_seconds,
  c.published AS changes_published, r.published AS removals_published,
  ARRAY(SELECT s.secret FROM endpoint_secrets s
        WHERE s.endpoint_id = e.id AND coalesce(s.expires_at > clock_timestamp(), true)
        ORDER BY s.id DESC) AS secrets
FROM endpoints e, {CHANGES.relay} c, {REMOVALS.relay} r WHERE e.paused_at IS NULL ORDER BY e.id
""")
_DELIVERED = text("""
UPDATE endpoints SET change_cursor = :changes, removal_cursor = :removals,
  delivered = delivered + :events, last_event = :last, last_delivered_at = clock_timestamp(),
  last_attempt_at = clock_timestamp(), failures = 0, failing_since = NULL, next_attempt_at = NULL,
  last_error = NULL
WHERE id = :id AND version = :version
""")
_FAILED = text(f"""
UPDATE endpoints SET failed = failed + 1, failures = failures + 1,
  failing_since = coalesce(failing_since, clock_timestamp()), last_attempt_at = clock_timestamp(),
  next_attempt_at = clock_timestamp() + CAST(:delay AS float8) * interval '1 second',
  last_error = :error
WHERE id = :id AND version = :version
RETURNING clock_timestamp() - failing_since >= interval '{GIVE_UP.days} days' AS gives_up
""")
_PAUSE = text("""
UPDATE endpoints SET paused_at = clock_timestamp(), paused_because = :why, version = version + 1
WHERE id = :id AND version = :version
""")


class Due(NamedTuple):
    """An endpoint that is not paused, as whoever sends needs it."""

    id: int
    version: int
    url: str
    allow_private: bool
    events: Sequence[str]
    change_cursor: int
    removal_cursor: int
    failures: int
    wait_seconds: float
    """How long not to try again, because of a failure."""
    changes_published: int
    """The publish number up to which changes may be sent."""
    removals_published: int
    secrets: Sequence[str]
    """The newest first. Each of them signs."""


class Position(NamedTuple):
    """Publish numbers up to which everything was sent."""

    changes: int
    removals: int


class Waiting(NamedTuple):
    """An event that an endpoint must get, and its kind."""

    kind: EventKind
    event: OutboxEvent

    def passed(self, position: Position) -> Position:
        """Return the position after this event."""
        if self.kind is EventKind.CHANGED:
            return position._replace(changes=self.event.number)
        return position._replace(removals=self.event.number)


async def due(connection: AsyncConnection) -> list[Due]:
    """Return the endpoints that are not paused."""
    return [Due(*row) for row in await connection.execute(_DUE)]


async def next_page(
    connection: AsyncConnection, endpoint: Due, position: Position, most: int
) -> list[Waiting]:
    """Return the published events after a position, in the order in which they must arrive.

    Removals come after all changes that are published: whoever is gone has no later change.
    """
    page = list[Waiting]()
    if EventKind.CHANGED in endpoint.events and position.changes < endpoint.changes_published:
        changes = await CHANGES.numbered_between(
            connection, position.changes, endpoint.changes_published, most
        )
        page += (Waiting(EventKind.CHANGED, event) for event in changes)
    wanted = EventKind.REMOVED in endpoint.events
    if wanted and len(page) < most and position.removals < endpoint.removals_published:
        removals = await REMOVALS.numbered_between(
            connection, position.removals, endpoint.removals_published, most - len(page)
        )
        page += (Waiting(EventKind.REMOVED, event) for event in removals)
    return page


async def note_delivered(
    connection: AsyncConnection, endpoint: Due, position: Position, events: int, last: str
) -> bool:
    """Note that everything up to a position was sent, ``events`` more than before.

    False if somebody has decided about the endpoint meanwhile; then nothing is noted.
    """
    parameters: dict[str, Any] = {
        "id": endpoint.id,
        "version": endpoint.version,
        "changes": position.changes,
        "removals": position.removals,
        "events": events,
        "last": last,
    }
    return (await connection.execute(_DELIVERED, parameters)).rowcount == 1


async def note_failed(
    connection: AsyncConnection,
    endpoint: Due,
    error: str,
    delay: float,
    gone: bool,  # noqa: FBT001
) -> str | None:
    """Note a failed attempt, and pause the endpoint if it is ``gone`` or has failed for too long.

    ``delay``: seconds until the next attempt. Return why it was paused, or None. The caller's
    connection commits each statement, and a process that dies between them tries once more.
    """
    which = {"id": endpoint.id, "version": endpoint.version}
    noted = await connection.execute(_FAILED, {**which, "error": error, "delay": delay})
    row = noted.one_or_none()
    if row is None or not (gone or row.gives_up):
        return None
    why = error if gone else f"one event has failed for {GIVE_UP.days} days; the last time: {error}"
    if (await connection.execute(_PAUSE, {**which, "why": why})).rowcount == 0:
        return None
    details = {"endpoint": endpoint.id, "why": why}
    await note(connection, SERVICE, "endpoint.paused", details=details)
    return why
