"""Find the JSON document in a stream entry, whoever wrote it.

Three writers are understood: any client that puts CloudEvents JSON in the field ``data``;
FastStream, which writes one field ``__data__`` in a binary envelope; and plain JSON in
``__data__``. This module finds the bytes; `service.core.judge` reads what they say.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

CANONICAL_FIELD = b"data"
FASTSTREAM_FIELD = b"__data__"

_MAGIC = b"\x89BIN\x0d\x0a\x1a\x0a"
_HEAD = struct.Struct(">8sHII")  # magic, format version, start of headers, start of data


Place = tuple[int | None, str]
"""An entry's partition (None: of none) and its id there."""


class Entry(NamedTuple):
    """A stream entry as it was read: its id, its raw fields, and where it was."""

    id: str
    fields: Mapping[bytes, bytes]
    partition: int | None = None
    """None: the stream that is not partitioned. Ids are unique within each only."""

    @property
    def place(self) -> Place:
        """What tells it from all other entries."""
        return self.partition, self.id

    @property
    def size(self) -> int:
        """Bytes in all fields together."""
        return sum(map(len, self.fields)) + sum(map(len, self.fields.values()))

    @property
    def milliseconds(self) -> int:
        """When Redis took the entry, Unix time, as its id says."""
        return int(self.id.partition("-")[0])


def payload(fields: Mapping[bytes, bytes]) -> bytes | None:
    """Give the JSON bytes of an entry, or None when no field of it holds any."""
    found = fields.get(CANONICAL_FIELD)
    if found is None:
        found = fields.get(FASTSTREAM_FIELD)
    if found is not None and found.startswith(_MAGIC) and len(found) >= _HEAD.size:
        found = found[_HEAD.unpack_from(found)[3] :]
    return found
