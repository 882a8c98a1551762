"""The text that searches for customers read. A table of its own has one row per customer."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

SEARCHED_REGISTERS = ("name", "email", "phone")
"""Registers that are part of the text; events may change them."""


def search_text(customer: str) -> str:
    """Return SQL for the text of a row of ``customers``. Its first line is the name."""
    return (
        f"lower(concat_ws(E'\\n', coalesce({customer}.name, ''), {customer}.email,"
        f" {customer}.phone, {customer}.notes))"
    )


_WRITE = text(f"""
INSERT INTO customer_search (customer_id, searched)
SELECT id, {search_text("c")} FROM customers c WHERE id = ANY(:ids)
ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
""")


async def write_search_text(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Bring the text of these customers up to date."""
    await connection.execute(_WRITE, {"ids": sorted(ids)})
