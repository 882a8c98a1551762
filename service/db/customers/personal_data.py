"""Dead letters that name a person: bytes as they came, searched for what may be in them."""

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref

NAMING_THEM = """
EXISTS (
  SELECT FROM unnest(field_values) AS v(value)
  WHERE lower(encode(v.value, 'escape')) ~ CAST(:traces AS text)
)
"""
"""A condition on a dead letter; its parameter is what `traces` gives."""

_DEAD_LETTERS = text(f"""
SELECT stream_id, partition, reason FROM dead_letters WHERE {NAMING_THEM}
ORDER BY first_seen, id
""")


def traces(customer_id: int, email_keys: Sequence[str]) -> str:
    """Write a regular expression of all that a dead letter may name them by.

    It is for bytes as text, which is ASCII without case: JSON may write any character as an escape,
    and so may the JSON around it. Rather too much is found than too little: an e-mail that ends
    like theirs is.
    """
    reference = _written(customer_ref(customer_id).lower())
    return "|".join([*map(_written, email_keys), f"(?<![0-9a-z]){reference}(?![0-9])"])


async def dead_letters_about(
    connection: AsyncConnection, customer_id: int, email_keys: Sequence[str]
) -> list[dict[str, Any]]:
    """List the dead letters that name a person, the oldest first: those that erasing empties."""
    rows = await connection.execute(_DEAD_LETTERS, {"traces": traces(customer_id, email_keys)})
    return [
        {"streamId": row.stream_id, "partition": row.partition, "reason": row.reason}
        for row in rows
    ]


def _written(name: str) -> str:
    return "".join(f"(?:{'|'.join(_ways(character))})" for character in name)


def _ways(character: str) -> Iterator[str]:
    """Give the ways to write a lower-case character in what `encode(…, 'escape')` made of bytes."""
    upper = character.upper()
    for written in {character, upper} if upper.lower() == character else {character}:
        units = wrap(written.encode("utf-16-be").hex(), 4)
        yield "".join(rf"\\+u{unit}" for unit in units)
        octal = (chr(byte) if byte < 0x80 else f"\\{byte:03o}" for byte in written.encode())  # noqa: PLR2004  ASCII
        yield r"\\*" + re.escape("".join(octal).lower())
