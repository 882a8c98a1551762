"""Remember the earlier lines of a file, on disk: a file may have millions of lines."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from service.core.order_event import EventKey
from service.transfer.orders_in import OrderKeys


class FileIndex:
    """An index that lasts as long as an import, in a temporary file without a name."""

    def __init__(self) -> None:
        """Create an empty index."""
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE lines (name TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._file.execute("CREATE TABLE keys (id TEXT PRIMARY KEY, json BLOB) WITHOUT ROWID")

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

    def order_keys(self, order_ids: Iterable[str]) -> dict[str, OrderKeys]:
        """Return the keys stored by earlier lines for those of these orders that have any."""
        keys = {}
        for order_id in set(order_ids):
            query = "SELECT json FROM keys WHERE id = ?"
            if row := self._file.execute(query, (order_id,)).fetchone():
                state, naming = orjson.loads(row[0])
                keys[order_id] = (_key(state), naming and _key(naming))
        return keys

    def store_order_keys(self, keys: dict[str, OrderKeys]) -> None:
        """Store the keys that these orders have after a line."""
        self._file.executemany(
            "INSERT OR REPLACE INTO keys VALUES (?, ?)",
            [
                (order_id, orjson.dumps([list(state), naming and list(naming)]))
                for order_id, (state, naming) in keys.items()
            ],
        )


def _key(parts: Any) -> EventKey:
    version, at, sent, event_id = parts
    return EventKey(version, datetime.fromisoformat(at), datetime.fromisoformat(sent), event_id)
