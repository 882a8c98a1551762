"""The registered webhooks of shops: their secrets, and what became of deliveries.

The caller commits. A secret is stored sealed. Only web processes may read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.hooks import DeliveryOutcome
from service.db.accounts.audit import note
from service.db.columns import pack, unpack

MOST_TOPICS = 200
"""Topics that are counted for a hook. Further ones are counted together, as `OTHER_TOPICS`."""
OTHER_TOPICS = "other topics"


class HookExistsError(Exception):
    """The shop has a hook already."""


class NoSuchHookError(Exception):
    """There is no such hook."""


class HookKey(NamedTuple):
    """What names a hook: the platform, and the shop's domain."""

    platform: str
    domain: str


@dataclass(frozen=True)
class Hook:
    """A hook with its secrets, as web processes need it."""

    id: int
    platform: str
    domain: str
    sealed: Sequence[str]
    """The secrets that are valid now, the latest first."""


class ListedHook(NamedTuple):
    """A hook as people see it, without its secrets."""

    id: int
    platform: str
    domain: str
    date_created: datetime
    last_delivery_at: datetime | None
    last_failure_at: datetime | None
    last_failure: str | None
    secrets: int
    """How many are valid."""
    next_expiry: datetime | None
    """When the next of them ends."""

    @property
    def failing(self) -> bool:
        """Return whether nothing has arrived in order since the last failure."""
        return bool(
            self.last_failure_at
            and (self.last_delivery_at is None or self.last_failure_at >= self.last_delivery_at)
        )


class TopicCount(NamedTuple):
    """How many deliveries of a topic had an outcome."""

    hook_id: int
    topic: str
    outcome: DeliveryOutcome
    deliveries: int
    last_at: datetime


class Noted(NamedTuple):
    """Deliveries that had the same outcome."""

    hook_id: int
    topic: str
    outcome: DeliveryOutcome
    deliveries: int
    last_at: datetime
    failure: str | None
    """What was wrong with the last failure, and what to do."""


_VALID = "coalesce(s.expires_at > now(), true)"
_ADD = text("""
INSERT INTO hooks (platform, domain) VALUES (:platform, :domain)
ON CONFLICT DO NOTHING RETURNING id
""")
_ADD_SECRET = text("INSERT INTO hook_secrets (hook_id, sealed) VALUES (:hook_id, :sealed)")
_FIND = text("SELECT id FROM hooks WHERE platform = :platform AND domain = :domain FOR UPDATE")
_RETIRE = text("""
UPDATE hook_secrets SET expires_at = LEAST(expires_at, now() + CAST(:overlap AS interval))
WHERE hook_id = :hook_id
""")
_FORGET_EXPIRED = text("DELETE FROM hook_secrets WHERE hook_id = :hook_id AND expires_at <= now()")
_REMOVE = text("DELETE FROM hooks WHERE platform = :platform AND domain = :domain")
_REGISTERED = text(f"""
SELECT h.id, h.platform, h.domain, s.sealed
FROM hooks h LEFT JOIN hook_secrets s ON s.hook_id = h.id AND {_VALID}
ORDER BY h.id, s.id DESC
""")
_LIST = text(f"""
SELECT h.id, h.platform, h.domain, h.date_created, h.last_delivery_at, h.last_failure_at,
  h.last_failure, count(s.id) AS secrets, min(s.expires_at) AS next_expiry
FROM hooks h LEFT JOIN hook_secrets s ON s.hook_id = h.id AND {_VALID}
GROUP BY h.id ORDER BY h.platform, h.domain
""")
_TOPICS = text("""
SELECT hook_id, topic, outcome, deliveries, last_at FROM hook_deliveries
ORDER BY hook_id, topic, outcome
""")
_ONLY_DOMAINS = text("""
SELECT platform, min(domain) AS domain FROM hooks GROUP BY platform HAVING count(*) = 1
""")
_NOTED = unpack(
    {
        "hook_id": "bigint",
        "topic": "text",
        "outcome": "text",
        "deliveries": "bigint",
        "last_at": "timestamptz",
        "failure": "text",
    }
)
# A hook may have been removed meanwhile.
_NOTE = text(f"""
WITH noted AS MATERIALIZED (
  SELECT n.*, h.topics FROM ({_NOTED}) n JOIN LATERAL (
    SELECT (SELECT count(DISTINCT topic) FROM hook_deliveries WHERE hook_id = hooks.id) AS topics
    FROM hooks WHERE id = n.hook_id
  ) h ON true
),
counted AS (
  INSERT INTO hook_deliveries AS d (hook_id, topic, outcome, deliveries, last_at)
  SELECT hook_id, kept, outcome, sum(deliveries), max(last_at)
  FROM noted n CROSS JOIN LATERAL (
    SELECT CASE WHEN topics < {MOST_TOPICS} OR EXISTS (
      SELECT FROM hook_deliveries k WHERE (k.hook_id, k.topic) = (n.hook_id, n.topic)
    ) THEN topic ELSE '{OTHER_TOPICS}' END AS kept
  ) t
  GROUP BY hook_id, kept, outcome ORDER BY hook_id, kept, outcome
  ON CONFLICT (hook_id, topic, outcome) DO UPDATE SET
    deliveries = d.deliveries + excluded.deliveries,
    last_at = GREATEST(d.last_at, excluded.last_at)
)
UPDATE hooks h SET
  last_delivery_at = GREATEST(h.last_delivery_at, latest.delivery),
  last_failure_at = GREATEST(h.last_failure_at, latest.failure),
  last_failure = CASE WHEN latest.failure >= coalesce(h.last_failure_at, latest.failure)
    THEN latest.reason ELSE h.last_failure END
FROM (
  SELECT hook_id,
    max(last_at) FILTER (WHERE outcome <> 'wrong_signature') AS delivery,
    max(last_at) FILTER (WHERE failure IS NOT NULL) AS failure,
    (array_agg(failure ORDER BY last_at DESC) FILTER (WHERE failure IS NOT NULL))[1] AS reason
  FROM noted GROUP BY hook_id
) latest
WHERE h.id = latest.hook_id
""")


async def add_hook(connection: AsyncConnection, key: HookKey, sealed: str, *, actor: str) -> None:
    """Register a shop's webhooks with their secret. Raises HookExistsError."""
    hook_id = (await connection.execute(_ADD, key._asdict())).scalar_one_or_none()
    if hook_id is None:
        raise HookExistsError
    await connection.execute(_ADD_SECRET, {"hook_id": hook_id, "sealed": sealed})
    await note(connection, actor, "hook.created", details=key._asdict())


async def rotate_hook(
    connection: AsyncConnection,
    key: HookKey,
    sealed: str,
    overlap: timedelta | None,
    *,
    actor: str,
) -> None:
    """Add a secret. Earlier ones stay valid for the overlap; with None, until they are replaced.

    Raises NoSuchHookError.
    """
    hook_id = (await connection.execute(_FIND, key._asdict())).scalar_one_or_none()
    if hook_id is None:
        raise NoSuchHookError
    if overlap is not None:
        await connection.execute(_RETIRE, {"hook_id": hook_id, "overlap": overlap})
        await connection.execute(_FORGET_EXPIRED, {"hook_id": hook_id})
    await connection.execute(_ADD_SECRET, {"hook_id": hook_id, "sealed": sealed})
    await note(connection, actor, "hook.rotated", details=key._asdict())


async def remove_hook(connection: AsyncConnection, key: HookKey, *, actor: str) -> None:
    """Remove a hook with its secrets and counts. Raises NoSuchHookError."""
    if not (await connection.execute(_REMOVE, key._asdict())).rowcount:
        raise NoSuchHookError
    await note(connection, actor, "hook.removed", details=key._asdict())


async def registered_hooks(connection: AsyncConnection) -> list[Hook]:
    """Return all hooks with their valid secrets."""
    found: dict[int, tuple[str, str, list[str]]] = {}
    for row in await connection.execute(_REGISTERED):
        _, _, sealed = found.setdefault(row.id, (row.platform, row.domain, []))
        if row.sealed is not None:
            sealed.append(row.sealed)
    return [Hook(id_, *rest) for id_, rest in found.items()]


async def list_hooks(connection: AsyncConnection) -> list[ListedHook]:
    """Return all hooks, without their secrets."""
    return [ListedHook(*row) for row in await connection.execute(_LIST)]


async def topic_counts(connection: AsyncConnection) -> list[TopicCount]:
    """Return the deliveries of each hook by topic and outcome."""
    return [
        TopicCount(
            row.hook_id, row.topic, DeliveryOutcome(row.outcome), row.deliveries, row.last_at
        )
        for row in await connection.execute(_TOPICS)
    ]


async def only_domains(connection: AsyncConnection) -> dict[str, str]:
    """Return the domain of each platform that has exactly one hook."""
    return {row.platform: row.domain for row in await connection.execute(_ONLY_DOMAINS)}


async def note_deliveries(connection: AsyncConnection, noted: Sequence[Noted]) -> None:
    """Count deliveries, and remember the last one and the last failure of each hook."""
    columns = zip(*sorted(noted, key=lambda each: each[:3]), strict=True)
    await connection.execute(_NOTE, pack(dict(zip(Noted._fields, columns, strict=True))))
