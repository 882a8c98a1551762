"""Remember the earlier lines of a file, on disk: a file may have millions of lines.

It also puts the orders of a file into the order in which they are written: those of one customer
side by side. So an import changes the segment of a customer once, however their orders are spread
over the file.
"""

import json
import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from service.core.order_event import EventCustomer, EventKey, OrderContent, OrderEvent
from service.transfer.order_lines import OrderLine
from service.transfer.orders_in import KnownOrder

_MOST_ROUNDS = 50
_TABLES = """
CREATE TABLE lines (name TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID;
CREATE TABLE known (id TEXT PRIMARY KEY, known BLOB) WITHOUT ROWID;
CREATE TABLE states (key TEXT PRIMARY KEY, number INTEGER, event_id TEXT) WITHOUT ROWID;
CREATE TABLE orders (
  number INTEGER PRIMARY KEY, line INTEGER, identifier TEXT, content BLOB, changes INTEGER
);
CREATE TABLE links (one TEXT, other TEXT, PRIMARY KEY (one, other)) WITHOUT ROWID;
CREATE TABLE people (identifier TEXT PRIMARY KEY, label TEXT) WITHOUT ROWID;
"""
_LABEL = """
UPDATE people SET label = l.label
FROM (SELECT one, min(p.label) AS label FROM links JOIN people p ON p.identifier = other
      GROUP BY one) l
WHERE l.one = identifier AND l.label < people.label
"""
_EARLIER = """
SELECT line, content, s.event_id FROM states s JOIN orders USING (number) WHERE key = ?
"""
_KNOWN = "SELECT id, known FROM known WHERE id IN (SELECT value FROM json_each(?))"
_GROUPED = """
SELECT coalesce(p.label, o.identifier, '') AS owner, o.line, o.content
FROM orders o LEFT JOIN people p ON p.identifier = o.identifier
WHERE o.changes ORDER BY owner, o.number
"""
_PEOPLE = """
SELECT count(*), count(*) FILTER (WHERE owner LIKE 'customer:%') FROM (
  SELECT DISTINCT coalesce(p.label, o.identifier) AS owner
  FROM orders o LEFT JOIN people p ON p.identifier = o.identifier
  WHERE o.identifier IS NOT NULL
)
"""


class EarlierState(NamedTuple):
    """An earlier line that has the same order with the same version and times."""

    line: int
    event: OrderEvent


class FileIndex:
    """An index that lasts as long as an import, in a temporary file without a name."""

    def __init__(self) -> None:
        """Create an empty index."""
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("PRAGMA cache_size = -16000")
        self._file.executescript(_TABLES)
        self._orders = 0
        self._file.execute("BEGIN")  # each statement by itself would write its pages to the disk

    def close(self) -> None:
        """Delete the index."""
        self._file.close()

    def first_line(self, name: str, line: int) -> int | None:
        """Return the earlier line with this name. None if this line is the first one."""
        added = self._file.execute("INSERT OR IGNORE INTO lines VALUES (?, ?)", (name, line))
        if added.rowcount:
            return None
        row = self._file.execute("SELECT line FROM lines WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    def add_order(self, line: int, order: OrderLine) -> int | EarlierState:
        """Store an order of the file, and return its number.

        If an earlier line has the same order with the same version and times, and says something
        else, that one is returned, and nothing is stored.
        """
        version, at, sent, event_id = order.event.key
        key = f"{order.event.order_id}\0{version}\0{at.timestamp()}\0{sent.timestamp()}"
        number = self._orders + 1
        state = (key, number, event_id)
        if not self._file.execute("INSERT OR IGNORE INTO states VALUES (?, ?, ?)", state).rowcount:
            earlier_line, content, earlier_id = self._file.execute(_EARLIER, (key,)).fetchone()
            earlier = _order(content).event
            if earlier_id != event_id and _says(earlier) != _says(order.event):
                return EarlierState(earlier_line, earlier)
        identifiers = order.event.customer.identifiers if order.event.customer else ()
        self._file.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, 1)",
            (number, line, identifiers[0] if identifiers else None, _packed(order)),
        )
        for other in identifiers[1:]:
            self.link(identifiers[0], other)
        self._orders = number
        return number

    def skip_order(self, number: int) -> None:
        """Leave out an order when the others are written."""
        self._file.execute("UPDATE orders SET changes = 0 WHERE number = ?", (number,))

    def known_orders(self, order_ids: Iterable[str]) -> dict[str, KnownOrder]:
        """Return what earlier lines made of those of these orders that they have."""
        rows = self._file.execute(_KNOWN, (json.dumps(list(order_ids)),))
        return {order_id: _known(content) for order_id, content in rows}

    def store_known(self, known: dict[str, KnownOrder]) -> None:
        """Store what the lines so far make of these orders."""
        self._file.executemany(
            "INSERT OR REPLACE INTO known VALUES (?, ?)",
            [
                (order_id, pickle.dumps([None if part is None else tuple(part) for part in order]))
                for order_id, order in known.items()
            ],
        )

    def link(self, one: str, other: str) -> None:
        """Note that two identifiers mean one customer."""
        for identifier in (one, other):
            self._file.execute("INSERT OR IGNORE INTO people VALUES (?, ?)", (identifier,) * 2)
        self._file.execute(
            "INSERT OR IGNORE INTO links VALUES (?, ?), (?, ?)", (one, other, other, one)
        )

    def put_together(self) -> None:
        """Give all identifiers of one customer the same label."""
        for _ in range(_MOST_ROUNDS):
            if not self._file.execute(_LABEL).rowcount:
                return

    def people(self) -> tuple[int, int]:
        """Return how many customers the orders name, and how many of these the database knows."""
        row = self._file.execute(_PEOPLE).fetchone()
        return int(row[0]), int(row[1])

    def batches(self, size: int, most: int) -> Iterator[Sequence[tuple[int, OrderLine]]]:
        """Yield the orders to write, those of one customer together.

        A batch has about ``size`` orders. It has up to ``most`` if one customer has so many.
        """
        batch: list[tuple[int, OrderLine]] = []
        begun = 0  # where the orders of the last owner in the batch begin
        last = None
        for owner, line, content in self._file.execute(_GROUPED):
            if owner != last or not owner:
                if len(batch) >= size:
                    yield batch
                    batch = []
                begun, last = len(batch), owner
            elif len(batch) >= most:
                if begun:
                    yield batch[:begun]
                    batch = batch[begun:]
                else:
                    yield batch
                    batch = []
                begun = 0
            batch.append((line, _order(content)))
        if batch:
            yield batch


def _says(event: OrderEvent) -> object:
    return event.content, event.customer and msgspec.structs.replace(event.customer, address=None)


# Plain tuples are pickled in a third of the time that objects take.
def _packed(order: OrderLine) -> bytes:
    event, erased = order
    rest = msgspec.structs.astuple(event.but(key=None, customer=None))
    customer = None if event.customer is None else msgspec.structs.astuple(event.customer)
    return pickle.dumps((rest, tuple(event.key), customer, erased))


def _order(content: bytes) -> OrderLine:
    rest, key, customer, erased = pickle.loads(content)  # noqa: S301 - we wrote it
    event = OrderEvent(*rest).but(
        key=EventKey(*key), customer=None if customer is None else EventCustomer(*customer)
    )
    return OrderLine(event, erased)


def _known(content: bytes) -> KnownOrder:
    state, naming, told = pickle.loads(content)  # noqa: S301 - we wrote it
    return KnownOrder(
        EventKey(*state), None if naming is None else EventKey(*naming), OrderContent(*told)
    )
