"""Was anything lost? What Redis shows now is held against what it showed before.

What is compared, and what can be known from it:

* **The balance.** Redis counts the entries ever added, Postgres the entries read (in the
  transaction that applies them). Entries added, less those still unread, must have been counted
  here, once or more often: what is delivered twice raises the balance, and only an entry that was
  never applied lowers it. So whatever removes entries too early is noticed, whoever did it, while
  workers ran or not: `MAXLEN` of a publisher, `XDEL` of unread or pending entries, a group moved
  forward, an acknowledgement by somebody else, a database restored from an older copy. The number
  is a lower bound: entries delivered twice since the last look hide as many. While entries are in
  the workers' hands, only what exceeds them is certain; the rest shows when they have finished.
  Trimming what the group has acknowledged, by us or others, does not touch the balance.
* **Continuity.** The stream's counters and last id only rise, and the entry that was the last one
  is there, or has been removed. Otherwise Redis came back empty or from an older copy (or somebody
  deleted the stream). Lost then is what had been seen, is gone, and was not counted here when that
  was noticed; workers may still apply what they hold. Entries added after the last look and gone
  before this one leave no trace. They are excluded when that look was a moment ago, a worker was
  listening (what is added then reaches it at once) and no entry was applied that the look had
  not seen; else the loss is told without a number.

A restart that keeps all that had been seen is no loss. What it forgot beyond that (up to a second
of entries under ``appendfsync everysec``, when the machine itself died) nobody can tell.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from service.core.stream_ids import NO_ID, StreamId, before

_MOMENT = timedelta(seconds=10)
"""In this time after a look, a worker that listens has been given whatever was added."""


class LossKind(StrEnum):
    """How entries were lost."""

    REMOVED = "removed"
    """Trimmed, deleted or passed over before they were applied; ``entries`` is at least."""
    ROLLED_BACK = "rolled_back"
    """Redis has less than it had; ``entries`` is of those seen before."""


class StreamSnapshot(NamedTuple):
    """The stream and our group on it. Of what does not exist, everything is zero."""

    moment: StreamId
    """An id that no entry added so far exceeds: Redis's clock."""
    added: int
    """Entries ever added; it goes back only where Redis forgot."""
    length: int
    last: StreamId
    """Of the last entry ever added."""
    first: StreamId
    """Of the first entry that is there."""
    deleted: StreamId
    """The greatest that XDEL removed."""
    delivered: StreamId
    """The last one that the group was given."""
    unread: int | None
    """Entries that are there and that the group was not given. None: too many to count."""
    pending: int
    settled: StreamId
    """Everything up to it was given to the group and acknowledged."""
    last_seen_is_there: bool
    """The entry that was the last one at an earlier look."""

    @property
    def removed(self) -> int:
        """Entries that were added and are gone, trimmed or deleted."""
        return self.added - self.length


class Survivors(NamedTuple):
    """What is left of an earlier look's stream."""

    last: StreamId
    """The last entry that is no newer than that look."""
    newer: int | None
    """Entries added since. None: too many to count."""


class Observation(NamedTuple):
    """What an earlier look found, as it is kept."""

    seen_at: datetime
    added: int
    removed: int
    last: StreamId
    settled: StreamId
    listening: bool
    """A worker was asking for entries."""
    balance: int
    """Entries counted here less entries passed on by Redis, at least."""
    read: int
    """Entries counted here; while Redis is away, since then as well."""
    away_since: datetime | None
    """Redis has not answered since."""


class Loss(NamedTuple):
    """Entries that Redis had taken and that were gone before they were applied."""

    kind: LossKind
    after: StreamId
    until: StreamId
    """Whatever was lost has an id beyond ``after`` and not beyond ``until``."""
    entries: int | None
    """None: nobody knows how many."""
    since: datetime
    """Nothing was lost before."""


def position(
    now: StreamSnapshot, at: datetime, read: int, least: int | None, *, listening: bool
) -> Observation:
    """Make what is kept of a look.

    ``read`` is what had been counted here before it, ``least`` a balance that was reached before.
    """
    # While the unread cannot be counted, they may be all there are.
    balance = read - now.added + (now.unread or 0)
    return Observation(
        seen_at=at,
        added=now.added,
        removed=now.removed,
        last=now.last,
        settled=now.settled,
        listening=listening,
        balance=balance if least is None else max(balance, least),
        read=read,
        away_since=None,
    )


def stepped_back(earlier: Observation, now: StreamSnapshot) -> bool:
    """Tell whether this cannot be the same stream, only later."""
    if now.added < earlier.added or now.removed < earlier.removed or now.last < earlier.last:
        return True
    if now.last_seen_is_there or earlier.last == NO_ID:
        return False
    removed = now.removed - earlier.removed
    if not now.length or now.first > earlier.last:
        return removed < earlier.added - earlier.removed  # all that was there is gone
    return not removed or now.deleted < earlier.last


def passed_over(earlier: Observation, now: StreamSnapshot, read: int) -> Loss | None:
    """Find entries that were never applied, by the balance. ``read`` was counted after the look."""
    if now.unread is None:
        return None
    missing = earlier.balance - (read - (now.added - now.unread) + now.pending)
    if missing <= 0:
        return None
    until = now.delivered
    if now.unread == now.length:  # what was before the first entry was never delivered
        until = max(until, before(now.first) if now.length else now.last)
    return Loss(LossKind.REMOVED, earlier.settled, until, missing, earlier.seen_at)


def forgotten(
    earlier: Observation, now: StreamSnapshot, left: Survivors, read: int, at: datetime
) -> Loss | None:
    """Find what a stream that stepped back has taken with it.

    None: all that had been seen was applied, and nothing hints at more. ``read`` was counted
    after the look.
    """
    kept = None if left.newer is None else now.added - left.newer
    if kept == 0 and now.unread is not None:  # what has been read since can be told apart
        read -= now.added - now.unread - now.pending
    else:
        read = earlier.read
    missing = earlier.balance + earlier.added - read
    known = max(0, missing if kept is None else min(missing, earlier.added - kept))
    added_since = missing < 0
    unseen = (earlier.away_since or at) - earlier.seen_at > _MOMENT
    if not known and not added_since and not unseen and earlier.listening:
        return None
    return Loss(
        LossKind.ROLLED_BACK,
        max(earlier.settled, left.last),
        now.moment,
        known or None,
        earlier.seen_at,
    )
