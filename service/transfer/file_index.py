"""Remember the earlier lines of a file, on disk: a file may have millions of lines.

It also puts the orders of a file into the order in which they are written: those of one customer
side by side. So an import changes the segment of a customer once, however their orders are spread
over the file.
"""

import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from service.core.order_event import OrderEvent
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
        query = (
            "SELECT line, content, s.event_id FROM states s JOIN orders USING (number)"
            " WHERE key = ?"
        )
        for earlier_line, content, earlier_id in self._file.execute(query, (key,)):
            earlier = _order(content).event
            if earlier_id != event_id and _says(earlier) != _says(order.event):
                return EarlierState(earlier_line, earlier)
        identifiers = order.event.customer.identifiers if order.event.customer else ()
        added = self._file.execute(
            "INSERT INTO orders (line, identifier, content, changes) VALUES (?, ?, ?, 1)",
            (line, identifiers[0] if identifiers else None, pickle.dumps(order)),
        )
        number = int(added.lastrowid or 0)
        self._file.execute("INSERT OR IGNORE INTO states VALUES (?, ?, ?)", (key, number, event_id))
        for other in identifiers[1:]:
            self.link(identifiers[0], other)
        return number

    def skip_order(self, number: int) -> None:
        """Leave out an order when the others are written."""
        self._file.execute("UPDATE orders SET changes = 0 WHERE number = ?", (number,))

    def known_orders(self, order_ids: Iterable[str]) -> dict[str, KnownOrder]:
        """Return what earlier lines made of those of these orders that they have."""
        found = {}
        for order_id in set(order_ids):
            query = "SELECT known FROM known WHERE id = ?"
            if row := self._file.execute(query, (order_id,)).fetchone():
                found[order_id] = pickle.loads(row[0])  # noqa: S301 - we wrote it
        return found

    def store_known(self, known: dict[str, KnownOrder]) -> None:
        """Store what the lines so far make of these orders."""
        self._file.executemany(
            "INSERT OR REPLACE INTO known VALUES (?, ?)",
            [(order_id, pickle.dumps(order)) for order_id, order in known.items()],
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
    return event.content, event.customer and event.customer._replace(address=None)


def _order(content: bytes) -> OrderLine:
    order: OrderLine = pickle.loads(content)  # noqa: S301 - we wrote it, in a file without a name
    return order
