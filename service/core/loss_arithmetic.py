"""Find out whether Redis lost entries before they were applied.

About once a second a worker checks each stream:

1. `service.streams.snapshot.take_snapshot` reads the stream and its group at one moment, as a
   `StreamSnapshot`.
2. The snapshot is compared with the `Checkpoint`, which is what the last check stored, and with the
   number of entries that Postgres counted as read. `was_rolled_back` decides whether this is still
   the stream of the last check. If it is, `find_removed` looks for entries that were removed too
   early; if not, `find_rolled_back` says what the rollback may have lost.
3. `next_checkpoint` builds the checkpoint for the next check. `service.db.operations.losses` stores
   it, and records the loss for people.

Two comparisons find a loss:

* **The balance** is the number of entries counted as read (in the transaction that applies them)
  less the number of entries that Redis has delivered, which is entries added less entries unread.
  An entry that is delivered twice raises the balance, and only an entry that was never applied
  lowers it. So the balance shows every removal that came too early, whether workers ran or not:
  `MAXLEN` of a publisher, `XDEL` of unread or pending entries, a group moved forward, an
  acknowledgement by somebody else, a database restored from an older copy. The number found is a
  lower bound: entries delivered twice since the last check hide as many lost ones. While workers
  hold pending entries, a loss is certain only as far as it exceeds their number; the rest shows
  when they have finished. Trimming acknowledged entries does not change the balance.
* **Continuity.** A stream's counters and its last id only rise, and the entry that was the last one
  at the last check is still there, or was removed. Otherwise Redis came back empty or with an older
  copy, or somebody deleted the stream. The lost entries are those that the last check had seen,
  that are gone, and that had not been counted when the rollback was noticed; workers may still
  apply those that they hold. Entries added after the last check and gone before this one leave no
  trace. So a rollback is always reported as a loss. If no entry is known to be lost, it has no
  number.

A restart that keeps everything that the last check had seen counts as no loss. It may have lost
later entries (up to a second of them under ``appendfsync everysec``, if the machine itself died),
but nothing shows them.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from service.core.stream_ids import NO_ID, StreamId, before

_AHEAD_MS = 86_400_000
"""A publisher that chooses ids by its own clock may be wrong by a day."""


class LossKind(StrEnum):
    """How entries were lost."""

    REMOVED = "removed"
    """Trimmed, deleted or skipped before they were applied. The number of entries is a minimum."""
    ROLLED_BACK = "rolled_back"
    """Redis has less than it had. Only entries that a check had seen are in the number."""


class StreamSnapshot(NamedTuple):
    """A stream and our group on it at one moment. Values of a missing stream or group are zero."""

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
    """The last entry that was delivered to the group."""
    unread: int | None
    """Entries in the stream that the group has not received. None: too many to count."""
    pending: int
    acknowledged: StreamId
    """Every entry up to this id was delivered to the group and acknowledged."""
    has_last_seen: bool
    """Whether the entry that was the last one at the last check is still there."""

    @property
    def is_ahead(self) -> bool:
        """Whether the last id lies in the future, so that ids no longer tell the time."""
        return self.last[0] > self.moment[0] + _AHEAD_MS

    @property
    def removed(self) -> int:
        """Entries that were added and are gone, trimmed or deleted."""
        return self.added - self.length


class Remainder(NamedTuple):
    """How much of the stream that the last check saw is left after a rollback."""

    last: StreamId
    """The last entry that the last check can have seen."""
    newer: int | None
    """Entries added since. None: too many to count."""


class Checkpoint(NamedTuple):
    """The state of a stream at a check, stored for the next check."""

    seen_at: datetime
    added: int
    removed: int
    last: StreamId
    acknowledged: StreamId
    balance: int
    """Entries counted as read less entries that Redis delivered; the true balance is not lower."""
    read: int
    """Entries counted as read. While Redis is away, this goes on rising."""


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
    snapshot: StreamSnapshot, at: datetime, read: int, least: int | None
) -> Checkpoint:
    """Build the checkpoint that is stored for the next check.

    ``read`` was counted before the snapshot was taken. ``least`` is the balance that an earlier
    check makes certain; None if there was no such check.
    """
    # If the unread entries cannot be counted, assume that there are none. That makes the balance
    # too low rather than too high, so no loss is reported that did not happen.
    balance = read - snapshot.added + (snapshot.unread or 0)
    return Checkpoint(
        seen_at=at,
        added=snapshot.added,
        removed=snapshot.removed,
        last=snapshot.last,
        acknowledged=snapshot.acknowledged,
        balance=balance if least is None else max(balance, least),
        read=read,
    )


def was_rolled_back(checkpoint: Checkpoint, snapshot: StreamSnapshot) -> bool:
    """Return True if the snapshot cannot be a later state of the checkpoint's stream."""
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
        return removed < was_there  # none of those entries is left, so all must have been removed
    # Older entries are left, so only XDEL can have removed this one.
    return not removed or snapshot.deleted < checkpoint.last


def find_removed(checkpoint: Checkpoint, snapshot: StreamSnapshot, read: int) -> Loss | None:
    """Find entries that were never applied, by the balance. None if there are none.

    ``read`` was counted after the snapshot was taken.
    """
    if snapshot.unread is None:
        return None
    delivered = snapshot.added - snapshot.unread
    # Workers may still count the pending entries.
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
) -> Loss:
    """Return what a rollback of Redis may have lost: the range of ids, and how many are known.

    ``read`` was counted after the snapshot was taken.
    """
    surviving = None if remainder.newer is None else snapshot.added - remainder.newer
    if surviving == 0 and snapshot.unread is not None:
        # All entries in the stream came after the rollback. Those read of them do not count here.
        read -= snapshot.added - snapshot.unread - snapshot.pending
    else:
        read = checkpoint.read
    missing = checkpoint.balance + checkpoint.added - read
    gone = None if surviving is None else checkpoint.added - surviving
    known = max(0, missing if gone is None else min(missing, gone))
    return Loss(
        LossKind.ROLLED_BACK,
        max(checkpoint.acknowledged, remainder.last),
        max(checkpoint.last, snapshot.moment),  # the clock may have been set back
        known or None,
        checkpoint.seen_at,
    )
