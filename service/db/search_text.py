r"""The text that searches for customers read. A table of its own has one row per customer.

The text has a line for each thing that is searched. The first is the name. Digits of a phone are a
line of their own, so that a pattern can say where a number begins and ends. The last character
(`MARK`) says that this release wrote the text. Texts without it wait for a worker, who writes them
anew: those from before the upgrade, and those that a process of the release before still writes.
"""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import AdvisoryLock, lock_customers, try_lock

SEARCHED = ("name", "email", "phone", "address ->> 'zip'")
"""What events may change of the text, as SQL over a row of ``customers``."""
MARK = r"\x1e"
"""The last character of a text in the form of this release, as in a string with escapes."""
WAITING = rf"(right(searched, 1) <> E'{MARK}')"
"""SQL for the texts that wait to be written anew. A partial index holds them."""


def search_text(customer: str) -> str:
    """Return SQL for the text of a row of ``customers``: a line for each thing that is searched."""
    return folded(unfolded(customer))


def unfolded(customer: str) -> str:
    """Return SQL for the text before it is folded, which `folded` does.

    This is the place for whatever else shall be found, such as the rows of a table that belong to
    the customer. Whoever writes these calls `write_search_text`.
    """
    # As a function of its own it would take seven times as long, for each new customer. The first
    # line is the key of a b-tree index, which takes 2,700 bytes. Folding makes some names longer.
    return rf"""concat_ws(E'\x1f',
  coalesce(left({customer}.name, 200), ''), {customer}.email,
  CASE WHEN length({customer}.name) > 200 THEN {customer}.name END,
  NULLIF(search_digits({customer}.phone), ''),
  CASE WHEN {customer}.phone COLLATE "C" ~ '[^-0-9 ()+./]' THEN {customer}.phone END,
  replace({customer}.address ->> 'zip', ' ', ''), NULLIF({customer}.notes, ''),
  (SELECT string_agg(CASE split_part(i.identifier, ':', 1)
      WHEN 'email' THEN substr(i.identifier, 7)
      WHEN 'phone' THEN substr(i.identifier, 8)
      WHEN 'external' THEN substr(i.identifier, strpos(i.identifier, '#') + 1)
    END, E'\x1f' ORDER BY i.identifier)
   FROM identifiers i WHERE i.customer_id = {customer}.id
     AND i.identifier <> coalesce('email:' || {customer}.email_key, '')))"""


def folded(written: str) -> str:
    """Return SQL for a text in the form that is searched.

    If ``written`` is a column, Postgres puts the body of `search_folded` in its place. A call of
    that function would take twice the time.
    """
    return rf"search_folded({written}) || E'\n{MARK}'"


def name_order(searched: str) -> str:
    """Return SQL for what names are sorted by: the name in a row's text, by its code points.

    So the order is the same on every server, whatever its language, and no update of a library of
    collations changes it below an index.
    """
    return f'split_part({searched} COLLATE "C", chr(10), 1)'


_WRITE = text(f"""
INSERT INTO customer_search AS s (customer_id, searched)
SELECT id, {search_text("c")} FROM customers c WHERE id = ANY(:ids)
ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
WHERE s.searched <> excluded.searched
""")
_STEP = 500
_WAITING_IDS = text(f"""
SELECT customer_id FROM customer_search WHERE {WAITING} AND customer_id > :after
ORDER BY customer_id LIMIT {_STEP}
""")
# Somebody who was erased meanwhile has no row. A text that is left over would wait for ever.
_LEFT_OVER = text(f"""
DELETE FROM customer_search WHERE customer_id = ANY(:ids) AND {WAITING}
""")


async def write_search_text(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Bring the text of these customers up to date."""
    await connection.execute(_WRITE, {"ids": sorted(ids)})


def rewrite_waiting_step() -> Callable[[AsyncConnection], Awaitable[int | None]]:
    """Build the step that writes the next texts anew that are not in the form of this release.

    It returns how many; None if none waits, or if another replica writes. The caller commits.
    """
    after = 0  # from the first one on, each step would pass by all that earlier steps have done

    async def step(connection: AsyncConnection) -> int | None:
        nonlocal after
        if not await try_lock(connection, AdvisoryLock.SEARCH_TEXTS):
            return None
        ids = (await connection.execute(_WAITING_IDS, {"after": after})).scalars().all()
        if not ids:
            from_the_first, after = after == 0, 0
            return None if from_the_first else 0
        after = ids[-1]
        # An edit locks the customer's row first, and writes the text after that.
        await lock_customers(connection, ids)
        await write_search_text(connection, ids)
        await connection.execute(_LEFT_OVER, {"ids": ids})
        return len(ids)

    return step
