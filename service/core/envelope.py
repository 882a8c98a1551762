"""Find the JSON document in a stream entry.

Publishers may use three forms: CloudEvents JSON in the field ``data``, which any client can write;
FastStream's binary envelope in the field ``__data__``; and plain JSON in ``__data__``. This module
works on bytes; `service.core.documents` decodes them.
"""

import struct
from collections.abc import Mapping
from itertools import chain, islice
from typing import NamedTuple

CANONICAL_FIELD = b"data"
FASTSTREAM_FIELD = b"__data__"
MOST_FIELDS = 64
"""An entry with more fields is not read whole. Events need one."""
KEPT_BYTES = 1024
"""How much is kept of an entry that is too large."""
ENTRY_BYTES = 2048
"""The memory that an entry of any size takes beside its content, once it is judged: some 30 small
objects."""

_MAGIC = b"\x89BIN\x0d\x0a\x1a\x0a"
_HEAD = struct.Struct(">8sHII")  # magic, format version, start of headers, start of data

Place = tuple[int | None, str]
"""An entry's partition (None: the stream that is not partitioned) and its id there."""


class Entry(NamedTuple):
    """A stream entry as it was read: its id, its raw fields and its partition."""

    id: str
    fields: Mapping[bytes, bytes]
    partition: int | None = None
    """None: the stream that is not partitioned. Ids are unique within one stream only."""
    missing: int = 0
    """Bytes that were not read because the entry is too large. Its fields are cut short then."""

    @property
    def place(self) -> Place:
        """Partition and id; no two entries share both."""
        return self.partition, self.id

    @property
    def size(self) -> int:
        """Number of bytes in all fields together, read or not."""
        return self.missing + sum(map(len, self.fields)) + sum(map(len, self.fields.values()))

    @property
    def milliseconds(self) -> int:
        """Unix time at which Redis took the entry, according to its id."""
        return int(self.id.partition("-")[0])


def beginning(entry: Entry) -> Entry:
    """Return the first bytes of an entry that is too large to be kept, as `missing` says."""
    kept, left = dict[bytes, bytes](), KEPT_BYTES
    for name, value in islice(entry.fields.items(), MOST_FIELDS):
        if not left:
            break
        name_kept = name[:left]
        value_kept = value[: left - len(name_kept)]
        kept[name_kept] = value_kept
        left -= len(name_kept) + len(value_kept)
    size = sum(map(len, chain(kept, kept.values())))
    return entry._replace(fields=kept, missing=max(1, entry.size - size))


def payload(fields: Mapping[bytes, bytes]) -> bytes | None:
    """Return the JSON bytes of an entry. None if it has neither of the two fields."""
    document = fields.get(CANONICAL_FIELD)
    if document is None:
        document = fields.get(FASTSTREAM_FIELD)
    if document is not None and document.startswith(_MAGIC) and len(document) >= _HEAD.size:
        document = document[_HEAD.unpack_from(document)[3] :]
    return document
