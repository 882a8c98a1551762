"""What becomes of dead letters, and how many of them are kept."""

import hashlib
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

from service.core.envelope import Entry


class Fate(StrEnum):
    """What happened to a dead letter. All that were stored, less the others, are still there."""

    STORED = "stored"
    REPLAYED = "replayed"
    """It was accepted in the end."""
    DISCARDED = "discarded"
    """A person deleted it."""
    TOO_OLD = "too_old"
    TOO_MANY = "too_many"
    TOO_MUCH = "too_much"


DROPPED = (Fate.TOO_OLD, Fate.TOO_MANY, Fate.TOO_MUCH)
"""The fates of letters that nobody decided about: the oldest ones beyond a bound."""


class Bounds(NamedTuple):
    """How many dead letters are kept. The oldest ones beyond a bound are dropped."""

    days: float
    letters: int
    bytes: int
    """The content of all letters together."""


class Kept(NamedTuple):
    """The dead letters that are there."""

    letters: int
    bytes: int
    oldest_days: float
    """The age of the oldest one."""


def share_used(kept: Kept, bounds: Bounds) -> dict[Fate, float]:
    """Return how much of each bound is used, 1 being all of it. Beyond 1, letters are dropped."""
    return {
        Fate.TOO_OLD: kept.oldest_days / bounds.days,
        Fate.TOO_MANY: kept.letters / bounds.letters,
        Fate.TOO_MUCH: kept.bytes / bounds.bytes,
    }


def digest(entry: Entry) -> bytes:
    """Return a hash of an entry's partition and fields, which identifies it together with its id.

    The id alone is not enough. After Redis was wiped, an id may come again with other bytes. Two
    partitions may have the same id, and the same bytes if a publisher repeats a bad entry. Of a cut
    entry, the hash is over what is known of it: its size and the fields that were kept.
    """
    hashed = hashlib.sha256()
    if entry.partition is not None:
        hashed.update(f"{entry.partition}:".encode())
    for part in chain.from_iterable(entry.fields.items()):
        hashed.update(len(part).to_bytes(8))
        hashed.update(part)
    if entry.missing:
        hashed.update(f":{entry.size}".encode())
    return hashed.digest()
