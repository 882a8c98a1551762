"""Likely duplicates: pairs of customers who may be one person. Staff decide about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identity import MOST_IDENTIFIERS
from service.core.json_values import dumps
from service.db.accounts.audit import note
from service.db.customers.identity.by_hand import NoSuchCustomerError
from service.db.customers.identity.pairs import separate
from service.db.locks import lock_customers, read_clock
from service.db.statistics.answer_cache import recall

Why = Literal["same_phone", "same_name_and_zip", "too_many_identifiers"]

CACHE_NAME = "duplicates"
MOST_PAIRS = 5_000
"""Pairs that are found at once. When staff have decided about them, others take their place."""
_MOST_ALIKE = MOST_IDENTIFIERS
"""What more customers than this have in common, such as the phone of a shop, says nothing."""

# Each customer of a group makes a pair with the first one of whom staff have not said that they are
# two people. All pairs of a group would be too many, and merging the first ones changes the others.
_FIND = text("""
WITH alike AS (
  SELECT why, array_agg(DISTINCT id) AS ids FROM (
    SELECT 'same_phone' AS why, id, right(ltrim(digits, '0'), 10) AS value FROM (
      SELECT id, regexp_replace(phone, '\\D', '', 'g') AS digits
      FROM customers WHERE phone IS NOT NULL
      UNION ALL
      SELECT customer_id, substr(identifier, 8) FROM identifiers
      WHERE identifier LIKE 'phone:%' AND customer_id IS NOT NULL
    ) phones WHERE length(digits) >= 7
    UNION ALL
    SELECT 'same_name_and_zip', id,
      lower(regexp_replace(name, '\\s', '', 'g')) || ' '
        || lower(regexp_replace(address ->> 'zip', '[\\s-]', '', 'g'))
    FROM customers WHERE name ~ '\\S' AND address ->> 'zip' ~ '\\S'
  ) said
  GROUP BY why, value HAVING count(*) > 1 AND count(DISTINCT id) BETWEEN 2 AND :most_alike
)
SELECT low, high, array_agg(DISTINCT why ORDER BY why DESC) AS why
FROM alike CROSS JOIN unnest(ids) AS h (high) CROSS JOIN LATERAL (
  SELECT low FROM unnest(ids) AS l (low) WHERE low < high
    AND NOT EXISTS (SELECT FROM separations s WHERE (s.low, s.high) = (l.low, h.high))
  ORDER BY low LIMIT 1) first
GROUP BY low, high ORDER BY high DESC, low DESC LIMIT :one_more
""")
# Staff may have decided about a pair since it was found.
_OPEN = """
WITH open AS MATERIALIZED (
  SELECT low, high, array_agg(why ORDER BY why DESC) AS why FROM (
    SELECT low, high, why
    FROM jsonb_to_recordset(CAST(:pairs AS jsonb)) AS p (low bigint, high bigint, whys jsonb)
    CROSS JOIN jsonb_array_elements_text(whys) AS w (why)
    UNION ALL
    SELECT low, high, 'too_many_identifiers' FROM pending_merges WHERE protected
  ) p
  WHERE EXISTS (SELECT FROM customers WHERE id = low)
    AND EXISTS (SELECT FROM customers WHERE id = high)
    AND NOT EXISTS (SELECT FROM separations s WHERE (s.low, s.high) = (p.low, p.high))
  GROUP BY low, high
)"""
_PAGE = text(f"""
{_OPEN}
SELECT low, high, why FROM open
WHERE CAST(:low AS bigint) IS NULL OR (high, low) < (CAST(:high AS bigint), :low)
ORDER BY high DESC, low DESC LIMIT :one_more
""")
_COUNT = text(f"{_OPEN} SELECT count(*) FROM open")


class PairPosition(NamedTuple):
    """The place of a pair in the list, which begins with the newest customers."""

    low: int
    high: int


class Pair(NamedTuple):
    """Two customers who may be one person, and what says so."""

    low: int
    high: int
    why: Sequence[Why]

    @property
    def position(self) -> PairPosition:
        """Its place in the list."""
        return PairPosition(self.low, self.high)


@dataclass(frozen=True)
class Duplicates:
    """A page of likely duplicates."""

    items: Sequence[Pair]
    total: int
    end: PairPosition | None
    """Where the page ended. None: it is the last one."""
    complete: bool
    """False if there are more pairs than are found at once."""
    as_of: datetime
    """When the pairs were found. What staff decided since then is left out."""


async def find(connection: AsyncConnection, _now: datetime) -> dict[str, Any]:
    """Return the pairs as the answer cache keeps them. It reads all customers."""
    parameters = {"most_alike": _MOST_ALIKE, "one_more": MOST_PAIRS + 1}
    rows = (await connection.execute(_FIND, parameters)).all()
    pairs = [{"low": row.low, "high": row.high, "whys": row.why} for row in rows[:MOST_PAIRS]]
    return {"pairs": pairs, "complete": len(rows) <= MOST_PAIRS}


async def duplicates(
    connection: AsyncConnection, limit: int, after: PairPosition | None = None
) -> Duplicates:
    """Return a page of the pairs about which nobody has decided yet, the newest first."""
    found, as_of = await _found(connection)
    low, high = after or (None, None)
    pairs = {"pairs": dumps(found["pairs"]).decode()}
    parameters = {**pairs, "low": low, "high": high, "one_more": limit + 1}
    rows = [Pair(*row) for row in await connection.execute(_PAGE, parameters)]
    return Duplicates(
        items=rows[:limit],
        total=int((await connection.execute(_COUNT, pairs)).scalar_one()),
        end=rows[limit - 1].position if len(rows) > limit else None,
        complete=found["complete"],
        as_of=as_of,
    )


async def count(connection: AsyncConnection) -> int:
    """Return how many pairs wait for a decision."""
    found, _ = await _found(connection)
    pairs = {"pairs": dumps(found["pairs"]).decode()}
    return int((await connection.execute(_COUNT, pairs)).scalar_one())


async def dismiss(connection: AsyncConnection, one: int, other: int, actor: str) -> None:
    """Note that two customers are two people; the caller commits. Raises NoSuchCustomerError.

    Nothing joins them from now on, until somebody merges them.
    """
    low, high = sorted((one, other))
    await lock_customers(connection, [low, high])
    existing = await connection.execute(_EXISTING, {"ids": [low, high]})
    if len(existing.all()) < 2:  # noqa: PLR2004
        raise NoSuchCustomerError
    await separate(connection, low, high, actor)
    await note(
        connection,
        actor,
        "customers.separated",
        customer_id=low,
        details={"other": customer_ref(high)},
    )


_EXISTING = text("SELECT id FROM customers WHERE id = ANY(:ids)")


async def _found(connection: AsyncConnection) -> tuple[dict[str, Any], datetime]:
    if kept := await recall(connection, CACHE_NAME):
        return kept.answer, kept.as_of
    now = await read_clock(connection)
    return await find(connection, now), now
