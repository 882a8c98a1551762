"""Time zones by their names in the IANA database.

Python and PostgreSQL each have a copy of that database. When a country changes its clocks at short
notice, an old copy has wrong days. So Python's is the pinned package `tzdata`, on every machine,
and not the copy of the operating system, which may be years old.
"""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones, reset_tzpath

reset_tzpath(())  # without a path, zoneinfo reads the package

_FOREIGN = ("posix/", "right/", "Factory", "localtime", "posixrules")
"""Entries of some systems' databases that PostgreSQL does not know."""


@cache
def time_zone_names() -> frozenset[str]:
    """Return the names that a store's time zone may have, such as ``Europe/Berlin``."""
    return frozenset(name for name in available_timezones() if not name.startswith(_FOREIGN))


def known_time_zone(name: str) -> str:
    """Return the name. Raises ValueError if no time zone has it."""
    if name not in time_zone_names():
        msg = f"{name!r} is no time zone of the IANA database; write it like Europe/Berlin"
        raise ValueError(msg)
    return name


def zone_of(name: str) -> ZoneInfo:
    """Return the rules of a time zone. Raises ValueError if no time zone has the name."""
    return ZoneInfo(known_time_zone(name))
