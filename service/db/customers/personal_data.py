"""Dead letters that name a person. They hold raw bytes, so they are searched by a pattern."""

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref

NAMES_THE_PERSON = """
EXISTS (
  SELECT FROM unnest(field_values) AS v(value)
  WHERE lower(encode(v.value, 'escape')) ~ CAST(:pattern AS text)
)
"""
"""A condition on a dead letter; its parameter ``pattern`` comes from `naming_pattern`."""

_DEAD_LETTERS = text(f"""
SELECT stream_id, partition, reason FROM dead_letters WHERE {NAMES_THE_PERSON}
ORDER BY first_seen, id
""")


class NamingLetter(NamedTuple):
    """A dead letter that names a person: where the entry was read, and why it was refused."""

    stream_id: str
    partition: int | None
    reason: str


def naming_pattern(customer_id: int, email_keys: Sequence[str]) -> str:
    """Return a regular expression that matches every spelling of a person's e-mails and id.

    It is applied to bytes written as lower-case ASCII. JSON can write any character as an escape,
    and JSON within JSON escapes it once more; the pattern matches all of these forms. It matches
    too much rather than too little: a longer e-mail that ends in one of theirs matches, too.
    """
    reference = _any_spelling(customer_ref(customer_id).lower())
    return "|".join([*map(_any_spelling, email_keys), f"(?<![0-9a-z]){reference}(?![0-9])"])


async def dead_letters_about(
    connection: AsyncConnection, customer_id: int, email_keys: Sequence[str]
) -> list[NamingLetter]:
    """Return the dead letters that name a person, the oldest first. `erase` empties these."""
    pattern = naming_pattern(customer_id, email_keys)
    rows = await connection.execute(_DEAD_LETTERS, {"pattern": pattern})
    return [NamingLetter(*row) for row in rows]


def _any_spelling(name: str) -> str:
    return "".join(f"(?:{'|'.join(_spellings(character))})" for character in name)


def _spellings(character: str) -> Iterator[str]:
    """Return patterns for a lower-case character as ``lower(encode(…, 'escape'))`` writes it."""
    upper = character.upper()
    for cased in {character, upper} if upper.lower() == character else {character}:
        units = wrap(cased.encode("utf-16-be").hex(), 4)
        yield "".join(rf"\\+u{unit}" for unit in units)
        octal = (chr(byte) if byte < 0x80 else f"\\{byte:03o}" for byte in cased.encode())  # noqa: PLR2004  ASCII
        yield r"\\*" + re.escape("".join(octal).lower())
