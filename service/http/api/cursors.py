"""The size of pages, and cursors: where a page ended, as a text that clients only send back.

A cursor holds what its list is sorted by, such as a name, so it is sealed.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request

from service.db.customers.customer_list import SortPosition
from service.db.customers.identity.duplicates import PairPosition
from service.db.customers.paging import TimePosition
from service.http.problems import ProblemError, invalid
from service.http.seal import Seal
from service.http.state import state_of

LONGEST_CURSOR = 6000
"""Characters. A name of 1,000 characters makes a cursor of 5,400."""
_PAIRS = "duplicates"
Limit = Annotated[int, Query(ge=1, le=500)]
"""How many items a page may have."""
Cursor = Annotated[str | None, Query(max_length=LONGEST_CURSOR)]
"""A cursor that `Cursors` made. None asks for the first page."""


def bad_cursor(where: str = "query.cursor") -> ProblemError:
    """Return the problem for a cursor that belongs to another list or another order."""
    message = "is not a cursor of this list in this order; leave it out to get the first page"
    return invalid(where, message)


class Cursors:
    """Writes and reads the cursors of lists. ``order`` names a list and how it is sorted."""

    def __init__(self, seal: Seal) -> None:
        """Seal cursors with this seal."""
        self._seal = seal

    def encode_sorted(self, position: SortPosition | None, order: str) -> str | None:
        """Return the cursor of a position in a sorted list; None for None."""
        return None if position is None else self._close([position.value, position.id], order)

    def decode_sorted(
        self, cursor: str | None, order: str, where: str = "query.cursor"
    ) -> SortPosition | None:
        """Return the position of a cursor; None without one. Raises a problem if it is invalid."""
        return None if cursor is None else SortPosition(*self._open(cursor, order, where))

    def encode_time(self, position: TimePosition | None, order: str) -> str | None:
        """Return the cursor of a position in a list that is sorted by time; None for None."""
        if position is None:
            return None
        return self._close([position.at.isoformat(), position.ref], order)

    def decode_time(self, cursor: str | None, order: str) -> TimePosition | None:
        """Return the position of a cursor; None without one. Raises a problem if it is invalid."""
        if cursor is None:
            return None
        at, ref = self._open(cursor, order)
        return TimePosition(datetime.fromisoformat(at).astimezone(UTC), ref)

    def encode_pair(self, position: PairPosition | None) -> str | None:
        """Return the cursor of a position in the list of duplicates; None for None."""
        return None if position is None else self._close([*position], _PAIRS)

    def decode_pair(self, cursor: str | None) -> PairPosition | None:
        """Return the position of a cursor; None without one. Raises a problem if it is invalid."""
        return None if cursor is None else PairPosition(*self._open(cursor, _PAIRS))

    def _close(self, position: list[Any], order: str) -> str:
        return self._seal.close(orjson.dumps(position), order)

    def _open(self, cursor: str, order: str, where: str = "query.cursor") -> list[Any]:
        """Return what was sealed, which needs no further check: nobody else can seal anything."""
        position = self._seal.open(cursor, order)
        if position is None:
            raise bad_cursor(where)
        opened: list[Any] = orjson.loads(position)
        return opened


async def _cursors(request: Request) -> Cursors:
    return Cursors(await state_of(request).seal.get())


SealedCursors = Annotated[Cursors, Depends(_cursors)]
"""The cursors of this installation."""
