"""Register endpoints, and decide about them. The caller commits.

An endpoint is a cursor over the history: two publish numbers, up to which each segment change and
each removal was sent. Moving them back repeats events. The relay gives new numbers only above all
that it ever gave, so an event that gets another number is sent again, and never left out.

Each decision raises the endpoint's version. Whoever sends notes progress for a version only, so
that it never undoes a decision.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.endpoints import MOST_ENDPOINTS, EventKind
from service.db.accounts.audit import note
from service.db.customers.removals import REMOVALS
from service.db.segments.change_outbox import CHANGES

MOST_COUNTED = 100_000
"""An endpoint that is further behind is not counted to the end."""


class NoSuchEndpointError(LookupError):
    """There is no endpoint with this id."""


class TooManyEndpointsError(ValueError):
    """There are as many endpoints as there may be."""


class NewEndpoint(NamedTuple):
    """What a person says of a new endpoint. The URL was checked."""

    url: str
    events: Sequence[EventKind]
    description: str = ""
    allow_private: bool = False
    since: datetime | None = None
    """It gets events from this time on. None: from now on."""


class Endpoint(NamedTuple):
    """An endpoint and how far it is, without its secrets."""

    id: int
    url: str
    description: str
    events: Sequence[str]
    allow_private: bool
    created_at: datetime
    created_by: str
    paused_at: datetime | None
    paused_by: str | None
    """None if it is not paused, or the service paused it."""
    paused_because: str | None
    delivered: int
    failed: int
    """Attempts so far that failed."""
    last_delivered_at: datetime | None
    last_event: str | None
    last_attempt_at: datetime | None
    failures: int
    """Failed attempts since the last event that arrived."""
    failing_since: datetime | None
    next_attempt_at: datetime | None
    last_error: str | None
    secrets: int
    """How many secrets sign now; more than one while a former one still does."""
    waiting: int
    """Published events that it does not have yet; at most `MOST_COUNTED` + 1."""
    lag_seconds: float
    """The age of the oldest of them. 0 if there is none."""
    failing_seconds: float

    @property
    def state(self) -> str:
        """Return what people call its state."""
        if self.paused_at:
            return "paused"
        return "failing" if self.failures else "active"

    @property
    def host(self) -> str:
        """Return the host of its URL. The rest of a URL may be a secret."""
        return urlsplit(self.url).netloc


class EndpointChange(NamedTuple):
    """What to change of an endpoint. None: it stays. The URL was checked."""

    url: str | None = None
    """Another URL has to be a public one: only the command line allows private networks."""
    events: Sequence[EventKind] | None = None
    description: str | None = None


class Replayed(NamedTuple):
    """What moving the cursor changed, in events."""

    again: int
    skipped: int


_BEHIND = """
(SELECT count(*) FROM (SELECT FROM {outbox} h WHERE h.publish_number > e.{cursor}
   AND h.publish_number <= (SELECT published FROM {relay}) LIMIT :most) behind)"""
_OLDEST = """
(SELECT h.{at} FROM {outbox} h WHERE h.publish_number > e.{cursor}
   AND h.publish_number <= (SELECT published FROM {relay}) ORDER BY h.publish_number LIMIT 1)"""
_OF_CHANGES = {
    "outbox": CHANGES.table,
    "relay": CHANGES.relay,
    "cursor": "change_cursor",
    "at": "changed_at",
}
_OF_REMOVALS = {
    "outbox": REMOVALS.table,
    "relay": REMOVALS.relay,
    "cursor": "removal_cursor",
    "at": "removed_at",
}
_WANTS_CHANGES = f"'{EventKind.CHANGED}' = ANY(e.events)"
_WANTS_REMOVALS = f"'{EventKind.REMOVED}' = ANY(e.events)"
_LIST = f"""
SELECT e.id, e.url, e.description, e.events, e.allow_private, e.created_at, e.created_by,
  e.paused_at, e.paused_by, e.paused_because, e.delivered, e.failed, e.last_delivered_at,
  e.last_event, e.last_attempt_at, e.failures, e.failing_since, e.next_attempt_at, e.last_error,
  (SELECT count(*) FROM endpoint_secrets s
   WHERE s.endpoint_id = e.id AND coalesce(s.expires_at > now(), true)) AS secrets,
  CASE WHEN {_WANTS_CHANGES} THEN {_BEHIND.format(**_OF_CHANGES)} ELSE 0 END
    + CASE WHEN {_WANTS_REMOVALS} THEN {_BEHIND.format(**_OF_REMOVALS)} ELSE 0 END AS waiting,
  LEAST(CASE WHEN {_WANTS_CHANGES} THEN {_OLDEST.format(**_OF_CHANGES)} END,
    CASE WHEN {_WANTS_REMOVALS} THEN {_OLDEST.format(**_OF_REMOVALS)} END) AS oldest,
  clock_timestamp() AS now
FROM endpoints e"""
_ALL = text(f"{_LIST} ORDER BY e.id")
_ONE = text(f"{_LIST} WHERE e.id = :id")
_COUNT = text("SELECT count(*) FROM endpoints")
# The places before the first events of a time. Numbers follow the order of commits, so a few events
# after these places may be older than the time.
_PLACES = f"""
SELECT
  coalesce((SELECT min(publish_number) - 1 FROM {CHANGES.table}
            WHERE changed_at >= CAST(:since AS timestamptz)), c.numbered) AS change_cursor,
  coalesce((SELECT min(publish_number) - 1 FROM {REMOVALS.table}
            WHERE removed_at >= CAST(:since AS timestamptz)), r.numbered) AS removal_cursor
FROM {CHANGES.relay} c, {REMOVALS.relay} r"""
_ADD = text(f"""
INSERT INTO endpoints (url, events, description, allow_private, created_by,
  change_cursor, removal_cursor)
SELECT :url, CAST(:events AS text[]), :description, :allow_private, :actor, p.*
FROM ({_PLACES}) p RETURNING id
""")
_ADD_SECRET = text("INSERT INTO endpoint_secrets (endpoint_id, secret) VALUES (:id, :secret)")
_LET_EXPIRE = text("""
UPDATE endpoint_secrets
SET expires_at = LEAST(expires_at, clock_timestamp() + CAST(:keep AS interval))
WHERE endpoint_id = :id
""")
_FORGET_EXPIRED = text(
    "DELETE FROM endpoint_secrets WHERE endpoint_id = :id AND expires_at <= clock_timestamp()"
)
_SECRETS = text("""
SELECT secret FROM endpoint_secrets
WHERE endpoint_id = :id AND coalesce(expires_at > clock_timestamp(), true) ORDER BY id DESC
""")
_CHANGE = "UPDATE endpoints SET version = version + 1, {} WHERE id = :id {} RETURNING id"
_PAUSE = text(
    _CHANGE.format(
        "paused_at = clock_timestamp(), paused_by = :actor, paused_because = :why",
        "AND paused_at IS NULL",
    )
)
_RESUME = text(
    _CHANGE.format(
        "paused_at = NULL, paused_by = NULL, paused_because = NULL, failures = 0,"
        " failing_since = NULL, next_attempt_at = NULL",
        "",
    )
)
_TOUCH = text(_CHANGE.format("url = url", ""))
_LOCK_WHOLE = text(
    "SELECT url, events, description, allow_private FROM endpoints WHERE id = :id FOR UPDATE"
)
# Events of a kind that is new to it begin now, as for a new endpoint. The version stays if only the
# description changes: whoever sends would repeat what is on its way.
_EDIT = text(f"""
UPDATE endpoints e SET url = :url, events = CAST(:events AS text[]), description = :description,
  allow_private = :allow_private, version = version + CAST(:is_sent_otherwise AS boolean)::int,
  change_cursor = CASE WHEN :begins_changes THEN p.change_cursor ELSE e.change_cursor END,
  removal_cursor = CASE WHEN :begins_removals THEN p.removal_cursor ELSE e.removal_cursor END
FROM ({_PLACES}) p WHERE e.id = :id
""")
_TRY_AT_ONCE = text("""
UPDATE endpoints SET failures = 0, failing_since = NULL, next_attempt_at = NULL WHERE id = :id
""")
_REMOVE = text("DELETE FROM endpoints WHERE id = :id RETURNING url")
_LOCK = text(
    "SELECT change_cursor, removal_cursor, events FROM endpoints WHERE id = :id FOR UPDATE"
)
_MOVE = text(
    _CHANGE.format(
        "change_cursor = :change_cursor, removal_cursor = :removal_cursor, failures = 0,"
        " failing_since = NULL, next_attempt_at = NULL",
        "",
    )
)
_BETWEEN = """
SELECT count(*) FROM {outbox} WHERE publish_number > :after AND publish_number <= :until"""
_BACK = text("""
UPDATE endpoints SET version = version + 1, change_cursor = :number
WHERE change_cursor > :number
""")


async def endpoints(connection: AsyncConnection) -> list[Endpoint]:
    """Return all endpoints, the oldest first."""
    rows = await connection.execute(_ALL, {"most": MOST_COUNTED + 1})
    return [_endpoint(row) for row in rows]


async def endpoint(connection: AsyncConnection, endpoint_id: int) -> Endpoint:
    """Return an endpoint. Raises NoSuchEndpointError."""
    found = await connection.execute(_ONE, {"id": endpoint_id, "most": MOST_COUNTED + 1})
    row = found.one_or_none()
    if row is None:
        raise NoSuchEndpointError
    return _endpoint(row)


async def add(connection: AsyncConnection, new: NewEndpoint, secret: str, actor: str) -> int:
    """Register an endpoint; return its id. Raises TooManyEndpointsError."""
    if (await connection.execute(_COUNT)).scalar_one() >= MOST_ENDPOINTS:
        raise TooManyEndpointsError
    events = sorted({kind.value for kind in new.events})
    added = await connection.execute(
        _ADD,
        {
            "url": new.url,
            "events": events,
            "description": new.description,
            "allow_private": new.allow_private,
            "actor": actor,
            "since": new.since,
        },
    )
    endpoint_id: int = added.scalar_one()
    await connection.execute(_ADD_SECRET, {"id": endpoint_id, "secret": secret})
    details = {
        "endpoint": endpoint_id,
        "host": urlsplit(new.url).netloc,
        "events": events,
        "allowPrivate": new.allow_private,
        "since": new.since,
    }
    await note(connection, actor, "endpoint.added", details=details)
    return endpoint_id


async def change(
    connection: AsyncConnection, endpoint_id: int, wanted: EndpointChange, actor: str
) -> list[str]:
    """Change an endpoint; return the names of what is different now.

    It goes on where it is. A kind of events that is new to it begins now, and another URL is tried
    at once. Raises NoSuchEndpointError.
    """
    before = (await connection.execute(_LOCK_WHOLE, {"id": endpoint_id})).one_or_none()
    if before is None:
        raise NoSuchEndpointError
    url: str = before.url if wanted.url is None else wanted.url
    events = (
        before.events if wanted.events is None else sorted({str(kind) for kind in wanted.events})
    )
    description = before.description if wanted.description is None else wanted.description
    after: dict[str, Any] = {"url": url, "events": events, "description": description}
    changed = [name for name, value in after.items() if value != getattr(before, name)]
    if not changed:
        return []
    begins = set(events) - set(before.events)
    await connection.execute(
        _EDIT,
        {
            "id": endpoint_id,
            **after,
            # Else whoever may change a URL could reach what only the command line may allow.
            "allow_private": before.allow_private and "url" not in changed,
            "is_sent_otherwise": changed != ["description"],
            "begins_changes": EventKind.CHANGED in begins,
            "begins_removals": EventKind.REMOVED in begins,
            "since": None,
        },
    )
    if "url" in changed:
        await connection.execute(_TRY_AT_ONCE, {"id": endpoint_id})
    hosts = {"host": urlsplit(before.url).netloc, "newHost": urlsplit(url).netloc}
    details = {
        "endpoint": endpoint_id,
        "changed": changed,
        **(hosts if "url" in changed else {}),
        **({"events": events} if "events" in changed else {}),
    }
    await note(connection, actor, "endpoint.changed", details=details)
    return changed


async def pause(connection: AsyncConnection, endpoint_id: int, actor: str, why: str) -> bool:
    """Send nothing more to an endpoint. False if it is paused. Raises NoSuchEndpointError."""
    parameters = {"id": endpoint_id, "actor": actor, "why": why}
    if (await connection.execute(_PAUSE, parameters)).one_or_none() is None:
        await endpoint(connection, endpoint_id)
        return False
    details = {"endpoint": endpoint_id, "why": why}
    await note(connection, actor, "endpoint.paused", details=details)
    return True


async def resume(connection: AsyncConnection, endpoint_id: int, actor: str) -> None:
    """Try again at once, and have three more days. Raises NoSuchEndpointError."""
    await _change(connection, endpoint_id, actor, "endpoint.resumed")


async def replay(
    connection: AsyncConnection,
    endpoint_id: int,
    since: datetime,
    actor: str,
    skip: bool,  # noqa: FBT001
) -> Replayed:
    """Send everything since a time again. Raises NoSuchEndpointError.

    Events that the endpoint does not have yet are left out only with ``skip``.
    """
    before = (await connection.execute(_LOCK, {"id": endpoint_id})).one_or_none()
    if before is None:
        raise NoSuchEndpointError
    after = (await connection.execute(text(_PLACES), {"since": since})).one()
    moved = {
        name: getattr(after, name) if skip else min(getattr(after, name), getattr(before, name))
        for name in ("change_cursor", "removal_cursor")
    }
    again = skipped = 0
    for kind, of in ((EventKind.CHANGED, _OF_CHANGES), (EventKind.REMOVED, _OF_REMOVALS)):
        if kind in before.events:
            old, new = getattr(before, of["cursor"]), moved[of["cursor"]]
            again += await _events_between(connection, of, new, old)
            skipped += await _events_between(connection, of, old, new)
    await connection.execute(_MOVE, {"id": endpoint_id, **moved})
    details = {"endpoint": endpoint_id, "since": since, "again": again, "skipped": skipped}
    await note(connection, actor, "endpoint.replayed", details=details)
    return Replayed(again, skipped)


async def remove(connection: AsyncConnection, endpoint_id: int, actor: str) -> None:
    """Forget an endpoint and its secrets. Raises NoSuchEndpointError."""
    removed = (await connection.execute(_REMOVE, {"id": endpoint_id})).one_or_none()
    if removed is None:
        raise NoSuchEndpointError
    details = {"endpoint": endpoint_id, "host": urlsplit(removed.url).netloc}
    await note(connection, actor, "endpoint.removed", details=details)


async def renew_secret(
    connection: AsyncConnection, endpoint_id: int, secret: str, keep: timedelta, actor: str
) -> None:
    """Sign with another secret; former ones sign as well for a while.

    Raises NoSuchEndpointError.
    """
    details = {"keepHours": keep / timedelta(hours=1)}
    await _change(connection, endpoint_id, actor, "endpoint.secret_renewed", **details)
    await connection.execute(_LET_EXPIRE, {"id": endpoint_id, "keep": keep})
    await connection.execute(_FORGET_EXPIRED, {"id": endpoint_id})
    await connection.execute(_ADD_SECRET, {"id": endpoint_id, "secret": secret})


async def signing_secrets(connection: AsyncConnection, endpoint_id: int) -> list[str]:
    """Return the secrets that sign now, the newest first. Web processes may not read them."""
    return list((await connection.execute(_SECRETS, {"id": endpoint_id})).scalars())


async def go_back(connection: AsyncConnection, number: int) -> None:
    """Have each endpoint get the segment changes above a publish number again.

    For changes that came back into the history below numbers that were sent since.
    """
    await connection.execute(_BACK, {"number": number})


async def _change(
    connection: AsyncConnection, endpoint_id: int, actor: str, action: str, **details: object
) -> None:
    statement = _RESUME if action == "endpoint.resumed" else _TOUCH
    if (await connection.execute(statement, {"id": endpoint_id})).one_or_none() is None:
        raise NoSuchEndpointError
    await note(connection, actor, action, details={"endpoint": endpoint_id, **details})


async def _events_between(
    connection: AsyncConnection, of: dict[str, str], after: int, until: int
) -> int:
    if after >= until:
        return 0
    query = text(_BETWEEN.format(**of))
    count: int = (await connection.execute(query, {"after": after, "until": until})).scalar_one()
    return count


def _endpoint(row: Row[Any]) -> Endpoint:
    *known, oldest, now = tuple(row)
    lag, failing = (
        max(0.0, (now - since).total_seconds()) if since else 0.0
        for since in (oldest, row.failing_since)
    )
    return Endpoint._make([*known, lag, failing])
