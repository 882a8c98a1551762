"""Find the dead letters that name a person, by an index of hashes.

Whom a letter names is looked for when it is stored (`service.core.personal_identifiers`). Salted
hashes of what was found are stored beside it. For a person, the same hashes are made of what is
known about them. So the cost does not depend on how many and how large the letters are.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import IdentifierKind, kind_of, value_of
from service.core.personal_identifiers import Traits, find, names, of_person
from service.core.personal_ids import Identifiers
from service.db import installation

_ORDER_IDS = text("SELECT id FROM orders WHERE customer_id = :id")
_IN_ITS_SOURCE = "#"
"""Stands before what a shop calls a customer."""
# The same rule as `service.core.personal_identifiers.names`.
_INDEXED = text("""
SELECT id, stream_id, partition, reason, first_seen FROM dead_letters
WHERE identifiers && CAST(:identifiers AS bigint[]) OR hints && CAST(:identifiers AS bigint[])
   OR hints && CAST(:hints AS bigint[]) AND identifiers = '{}'
""")
_UNINDEXED = text("""
SELECT id, stream_id, partition, reason, first_seen FROM dead_letters
WHERE identifiers IS NULL AND id > :after ORDER BY id LIMIT 1
""")
# A letter that is not measured may be huge. Its beginning is read; workers will cut it anyway.
_CONTENT = text("""
SELECT substring(name FROM 1 FOR most) AS name, substring(value FROM 1 FOR most) AS value
FROM (
  SELECT name, value, place,
    coalesce(stored, 1048576) - sum(octet_length(name) + octet_length(value)) OVER (ORDER BY place)
      + octet_length(name) + octet_length(value) AS allowed
  FROM dead_letters, unnest(field_names, field_values) WITH ORDINALITY AS f (name, value, place)
  WHERE id = :id
) fields CROSS JOIN LATERAL (SELECT CAST(least(allowed, 1073741823) AS int) AS most)
WHERE allowed > 0 ORDER BY place
""")


class NamingLetter(NamedTuple):
    """A dead letter that names a person: where the entry was read, and why it was refused."""

    id: int
    stream_id: str
    partition: int | None
    reason: str
    first_seen: datetime


class Hashes(NamedTuple):
    """The salted hashes of traits, as the index has them: the first 64 bits."""

    identifiers: list[int]
    hints: list[int]


def hashes(salt: bytes, traits: Traits) -> Hashes:
    """Return the hashes of traits. They are of no use to whoever does not know the salt."""
    return Hashes(_hashed(salt, traits.identifiers), _hashed(salt, traits.hints))


def _hashed(salt: bytes, traits: Iterable[str]) -> list[int]:
    digests = (hashlib.sha256(salt + trait.encode(errors="replace")) for trait in traits)
    return sorted(int.from_bytes(each.digest()[:8], signed=True) for each in digests)


async def traits_of(
    connection: AsyncConnection, customer_id: int, identifiers: Identifiers
) -> Traits:
    """Return by what a document names a customer: all that is known of them, now and formerly.

    Call it before their orders are taken from them.
    """
    order_ids = (await connection.execute(_ORDER_IDS, {"id": customer_id})).scalars().all()
    external_ids = [
        value_of(each).partition(_IN_ITS_SOURCE)[2]
        for each in identifiers.keys
        if kind_of(each) is IdentifierKind.EXTERNAL
    ]
    return of_person(
        *identifiers.customers,
        emails=identifiers.email_keys,
        phones=identifiers.phones,
        names=identifiers.names,
        ids=[*order_ids, *external_ids],
    )


async def dead_letters_about(
    connection: AsyncConnection, customer_id: int, identifiers: Identifiers
) -> list[NamingLetter]:
    """Return the dead letters that name a person, the oldest first. `erase` empties these.

    Letters that no worker has indexed yet are read, one after the other.
    """
    person = await traits_of(connection, customer_id, identifiers)
    wanted = hashes(await installation.secret(connection), person)._asdict()
    found = [NamingLetter(*row) for row in await connection.execute(_INDEXED, wanted)]
    found += [
        letter
        async for letter in _unindexed(connection)
        if names(await find_in(connection, letter.id), person)
    ]
    return sorted(found, key=lambda letter: (letter.first_seen, letter.id))


async def _unindexed(connection: AsyncConnection) -> AsyncIterator[NamingLetter]:
    after = 0
    while row := (await connection.execute(_UNINDEXED, {"after": after})).one_or_none():
        after = row.id
        yield NamingLetter(*row)


async def content(connection: AsyncConnection, letter_id: int) -> list[tuple[bytes, bytes]]:
    """Return the names and values of a dead letter's fields, as far as they are looked through."""
    rows = await connection.execute(_CONTENT, {"id": letter_id})
    return [(row.name, row.value) for row in rows]


async def find_in(connection: AsyncConnection, letter_id: int) -> Traits:
    """Return the traits in a dead letter. Large ones take a moment, in which others go on."""
    fields = await content(connection, letter_id)
    return await asyncio.to_thread(find, list(chain.from_iterable(fields)))
