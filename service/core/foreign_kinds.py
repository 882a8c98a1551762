"""The kinds of things that somebody else did to a stream of ours."""

from enum import StrEnum


class ForeignKind(StrEnum):
    """What an entry was taken for, or what is wrong with a stream."""

    FOREIGN = "foreign"
    """No event of ours can look like this. The entry was removed from the out-stream."""
    UNKNOWN = "unknown"
    """It looks like an event of ours that this database has forgotten. On a change, `crm recover`
    decides; a removal was removed from the out-stream."""
    REFUSED = "refused"
    """`crm recover` refused it, or a person discarded it. It was removed from the out-stream."""
    AHEAD = "ahead"
    """The stream's last id lies in the future, so ids of new entries no longer tell the time; at
    the greatest id there is, Redis takes no new entry at all."""
