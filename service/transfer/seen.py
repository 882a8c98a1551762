"""What a file has named so far: on disk, for it may be millions."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from service.core.order_event import EventKey
from service.transfer.orders_in import Keys


class Seen:
    """Remembers for the length of an import; the file behind it is temporary and nameless."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE first (name TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._file.execute("CREATE TABLE keys (id TEXT PRIMARY KEY, json BLOB) WITHOUT ROWID")

    def close(self) -> None:
        """Forget it."""
        self._file.close()

    def first(self, name: str, line: int) -> int | None:
        """Note that a line has this name; give the line that had it before, if one did."""
        added = self._file.execute("INSERT OR IGNORE INTO first VALUES (?, ?)", (name, line))
        if added.rowcount:
            return None
        found = self._file.execute("SELECT line FROM first WHERE name = ?", (name,)).fetchone()
        return int(found[0])

    def keys(self, order_ids: Iterable[str]) -> dict[str, Keys]:
        """Give the orders' keys as far as they are known from this file."""
        found = {}
        for order_id in set(order_ids):
            query = "SELECT json FROM keys WHERE id = ?"
            if row := self._file.execute(query, (order_id,)).fetchone():
                state, naming = orjson.loads(row[0])
                found[order_id] = (_key(state), naming and _key(naming))
        return found

    def remember(self, keys: dict[str, Keys]) -> None:
        """Keep the orders' keys."""
        self._file.executemany(
            "INSERT OR REPLACE INTO keys VALUES (?, ?)",
            [
                (order_id, orjson.dumps([list(state), naming and list(naming)]))
                for order_id, (state, naming) in keys.items()
            ],
        )


def _key(parts: Any) -> EventKey:
    version, at, event_id = parts
    return EventKey(version, datetime.fromisoformat(at), event_id)
