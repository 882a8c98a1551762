"""Limit how much slow work one caller may have under way, so that none slows down the others.

Each process counts for itself, as the limits of `rate_limits` do.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from service.http.problems import ProblemError


class Work(NamedTuple):
    """A kind of slow work, and how many of it may run at once."""

    name: str
    """Its plural, as an answer names it."""
    each: int
    """How many one caller may run at once in one process."""
    all: int
    """How many all callers together may run at once in one process."""
    wait: int
    """Seconds after which a refused caller should try again."""


STATISTICS = Work("requests for statistics", each=6, all=12, wait=2)
"""Six, because a report may ask for all five statistics at once."""
PREVIEWS = Work("previews of settings", each=2, all=3, wait=5)
EXPORTS = Work("exports", each=2, all=4, wait=30)
UPLOADS = Work("uploads of files", each=2, all=4, wait=30)
STREAMS = Work("live streams", each=20, all=200, wait=10)
"""A tab of the dashboard holds one. They share one query, so they hold no database connection."""


class Budgets:
    """Counts the work that runs, by kind and by caller."""

    def __init__(self) -> None:
        """Start with nothing running."""
        self._running: Counter[tuple[Work, str]] = Counter()
        self._together: Counter[Work] = Counter()

    @contextmanager
    def spend(self, work: Work, caller: str) -> Iterator[None]:
        """Count one more while the block runs. Raises a problem at once if there is no room."""
        if self._running[work, caller] >= work.each:
            detail = (
                f"You are running {work.each} {work.name} already, as many as one caller may. "
                "Try again when one of them is done."
            )
            raise ProblemError(429, "Too many at once", detail, headers=_retry_after(work))
        if self._together[work] >= work.all:
            detail = (
                f"{work.all} {work.name} of several callers are running already, as many as this "
                "process can serve. Try again soon."
            )
            raise ProblemError(503, "Busy", detail, headers=_retry_after(work))
        self._running[work, caller] += 1
        self._together[work] += 1
        try:
            yield
        finally:
            self._together[work] -= 1
            self._running[work, caller] -= 1
            if not self._running[work, caller]:
                del self._running[work, caller]

    def running(self, work: Work) -> int:
        """Return how many of a kind are running."""
        return self._together[work]


def _retry_after(work: Work) -> dict[str, str]:
    return {"Retry-After": str(work.wait)}
