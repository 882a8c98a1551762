"""Find out whether Redis lost entries before they were applied.

About once a second a worker checks each stream:

1. `service.streams.snapshot.take_snapshot` reads the stream and its group at one moment, as a
   `StreamSnapshot`.
2. The snapshot is compared with the `Checkpoint`, which is what the last check stored, and with the
   number of entries that Postgres counted as read. `was_rolled_back` decides whether this is still
   the stream of the last check. If it is, `find_removed` looks for entries that were removed too
   early; if not, `find_rolled_back` looks for what the rollback took. Both return a `Loss` or None.
3. `next_checkpoint` builds the checkpoint for the next check. `service.db.operations.losses` stores
   it, and records the loss for people.

What is compared, and what can be known from it:

* **The balance** is the number of entries counted as read (in the transaction that applies them)
  less the number of entries that Redis has delivered, which is entries added less entries unread.
  An entry that is delivered twice raises the balance, and only an entry that was never applied
  lowers it. So the balance shows whatever removes entries too early, whoever did it, and whether
  workers ran or not: `MAXLEN` of a publisher, `XDEL` of unread or pending entries, a group moved
  forward, an acknowledgement by somebody else, a database restored from an older copy. The number
  found is a lower bound: entries delivered twice since the last check hide as many lost ones. While
  workers hold entries, only what exceeds those is certain; the rest shows when they have finished.
  Trimming what the group has acknowledged does not touch the balance, whoever trims.
* **Continuity.** A stream's counters and its last id only rise, and the entry that was the last one
  at the last check is still there, or was removed. Otherwise Redis came back empty or with an older
  copy, or somebody deleted the stream. Lost are then the entries that the last check had seen, that
  are gone, and that had not been counted when the rollback was noticed; workers may still apply
  those that they hold. Entries added after the last check and gone before this one leave no trace.
  There were none if the last check was a moment ago, a worker was listening (it is given new
  entries at once) and no entry was applied that the check had not seen. Otherwise the loss is
  reported without a number.

A restart that keeps everything that the last check had seen is no loss. Nobody can tell what it
forgot beyond that (up to a second of entries under ``appendfsync everysec``, if the machine itself
died).
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from service.core.stream_ids import NO_ID, StreamId, before

_MOMENT = timedelta(seconds=10)
"""Within this time after a check, a listening worker was given everything that was added."""


class LossKind(StrEnum):
    """How entries were lost."""

    REMOVED = "removed"
    """Trimmed, deleted or skipped before they were applied. The number of entries is a minimum."""
    ROLLED_BACK = "rolled_back"
    """Redis has less than it had. Only entries that a check had seen are in the number."""


class StreamSnapshot(NamedTuple):
    """A stream and our group on it at one moment. Everything is zero for what does not exist."""

    moment: StreamId
    """Redis's clock as an id; no entry added so far has a greater one."""
    added: int
    """Entries ever added; this only falls if Redis forgot some."""
    length: int
    last: StreamId
    """The last entry ever added."""
    first: StreamId
    """The first entry that is still there."""
    deleted: StreamId
    """The greatest id that XDEL removed."""
    delivered: StreamId
    """The last entry that the group was given."""
    unread: int | None
    """Entries that are there and that the group was not given. None: too many to count."""
    pending: int
    acknowledged: StreamId
    """Every entry up to this id was given to the group and acknowledged."""
    has_last_seen: bool
    """Whether the entry that was the last one at the last check is still there."""

    @property
    def removed(self) -> int:
        """Entries that were added and are gone, trimmed or deleted."""
        return self.added - self.length


class Remainder(NamedTuple):
    """What a stream that was rolled back still has of the stream of the last check."""

    last: StreamId
    """The last entry that the last check can have seen."""
    newer: int | None
    """Entries added since. None: too many to count."""


class Checkpoint(NamedTuple):
    """What a check found, stored for the next one."""

    seen_at: datetime
    added: int
    removed: int
    last: StreamId
    acknowledged: StreamId
    listening: bool
    """A worker was reading the stream."""
    balance: int
    """Entries counted as read less entries that Redis delivered; the true balance is not lower."""
    read: int
    """Entries counted as read. While Redis is away, this goes on rising."""
    away_since: datetime | None
    """When Redis stopped answering. None: it answered."""


class Loss(NamedTuple):
    """Entries that Redis had accepted and that were gone before they were applied."""

    kind: LossKind
    after: StreamId
    until: StreamId
    """Every lost entry has an id greater than ``after`` and not greater than ``until``."""
    entries: int | None
    """How many. None: nobody knows."""
    since: datetime
    """Nothing was lost before this moment."""


def next_checkpoint(
    snapshot: StreamSnapshot, at: datetime, read: int, least: int | None, *, listening: bool
) -> Checkpoint:
    """Build the checkpoint that is stored for the next check.

    ``read`` was counted before the snapshot was taken. ``least`` is a balance that was reached
    before; None if there was none.
    """
    # While the unread entries cannot be counted, assume that there are none: that makes the balance
    # too low rather than too high, and so reports no loss that is none.
    balance = read - snapshot.added + (snapshot.unread or 0)
    return Checkpoint(
        seen_at=at,
        added=snapshot.added,
        removed=snapshot.removed,
        last=snapshot.last,
        acknowledged=snapshot.acknowledged,
        listening=listening,
        balance=balance if least is None else max(balance, least),
        read=read,
        away_since=None,
    )


def was_rolled_back(checkpoint: Checkpoint, snapshot: StreamSnapshot) -> bool:
    """Return True if the snapshot cannot be of the checkpoint's stream at a later moment."""
    if (
        snapshot.added < checkpoint.added
        or snapshot.removed < checkpoint.removed
        or snapshot.last < checkpoint.last
    ):
        return True
    if snapshot.has_last_seen or checkpoint.last == NO_ID:
        return False
    # The entry that was the last one is gone. If it was removed, the counters must show that.
    removed = snapshot.removed - checkpoint.removed
    if not snapshot.length or snapshot.first > checkpoint.last:
        was_there = checkpoint.added - checkpoint.removed
        return removed < was_there  # nothing of it is left, so all of it must have been removed
    return not removed or snapshot.deleted < checkpoint.last  # older ones are left: it was XDEL


def find_removed(checkpoint: Checkpoint, snapshot: StreamSnapshot, read: int) -> Loss | None:
    """Find entries that were never applied, by the balance. None if there are none.

    ``read`` was counted after the snapshot was taken.
    """
    if snapshot.unread is None:
        return None
    delivered = snapshot.added - snapshot.unread
    # Pending entries may still be counted.
    missing = checkpoint.balance - (read - delivered + snapshot.pending)
    if missing <= 0:
        return None
    until = snapshot.delivered
    if snapshot.unread == snapshot.length:  # what was before the first entry was never delivered
        until = max(until, before(snapshot.first) if snapshot.length else snapshot.last)
    return Loss(LossKind.REMOVED, checkpoint.acknowledged, until, missing, checkpoint.seen_at)


def find_rolled_back(
    checkpoint: Checkpoint,
    snapshot: StreamSnapshot,
    remainder: Remainder,
    read: int,
    at: datetime,
) -> Loss | None:
    """Find what a rollback of Redis took.

    None if everything that the last check had seen was applied, and nothing hints at more.
    ``read`` was counted after the snapshot was taken.
    """
    kept = None if remainder.newer is None else snapshot.added - remainder.newer
    if kept == 0 and snapshot.unread is not None:
        # All there is came after the rollback, so what was read of it can be told apart.
        read -= snapshot.added - snapshot.unread - snapshot.pending
    else:
        read = checkpoint.read
    missing = checkpoint.balance + checkpoint.added - read
    known = max(0, missing if kept is None else min(missing, checkpoint.added - kept))
    added_since = missing < 0
    unwatched = (checkpoint.away_since or at) - checkpoint.seen_at > _MOMENT
    if not known and not added_since and not unwatched and checkpoint.listening:
        return None
    return Loss(
        LossKind.ROLLED_BACK,
        max(checkpoint.acknowledged, remainder.last),
        snapshot.moment,
        known or None,
        checkpoint.seen_at,
    )
