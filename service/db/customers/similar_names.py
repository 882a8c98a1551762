"""Names that are like the one that somebody searched for, for when nobody has that one."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_number
from service.db.customers import customer_row
from service.db.customers.customer_row import CustomerRow
from service.db.customers.search_query import Term, parse
from service.db.engine import sqlstate

MOST = 5
_LIKENESSES = (0.6, 0.4, 0.25)
"""How much of the trigrams must be the same. A shop with many similar names is asked for the
closest ones first, because each step reads many times as many names as the one before."""
_COMPARED = 1000
_MILLISECONDS = 400
"""The longest time for all of it. To find no similar names is better than to wait for them."""
_SHORTEST = 3
_TIMED_OUT = "57014"

_SET = text("""
SELECT set_config('pg_trgm.word_similarity_threshold', :likeness, true),
  set_config('statement_timeout', :milliseconds, true)
""")
# Only the index of all that is searched knows trigrams, so the names are compared once more.
_SIMILAR = text(f"""
WITH near AS MATERIALIZED (
  SELECT s.customer_id, split_part(s.searched, chr(10), 1) AS name, a.name AS asked
  FROM (SELECT search_folded(:asked)) a (name), customer_search s
  WHERE s.searched %> (SELECT search_folded(:asked)) LIMIT {_COMPARED}
)
SELECT customer_id FROM near WHERE word_similarity(asked, name) >= CAST(:likeness AS float4)
ORDER BY word_similarity(asked, name) DESC, similarity(asked, name) DESC, customer_id LIMIT {MOST}
""")


async def similar_names(connection: AsyncConnection, search: str) -> Sequence[CustomerRow]:
    """Return the customers whose names are most like the words of a search, the closest first.

    Empty if the search asks for no name, or if it takes too long.
    """
    words = [term.written for term in parse(search) if isinstance(term, Term) and _a_name(term)]
    if not words:
        return ()
    ids: Sequence[int] = ()
    savepoint = await connection.begin_nested()  # what is set here ends with it
    try:
        for likeness in _LIKENESSES:
            setting = {"likeness": str(likeness)}
            limit = {"milliseconds": str(_MILLISECONDS // len(_LIKENESSES))}
            await connection.execute(_SET, setting | limit)
            asked = {"asked": " ".join(words), "likeness": likeness}
            ids = (await connection.execute(_SIMILAR, asked)).scalars().all()
            if len(ids) == MOST:
                break
    except DBAPIError as error:
        if sqlstate(error) != _TIMED_OUT:
            raise
    finally:
        await savepoint.rollback()
    rows = await customer_row.read_all(connection, ids) if ids else {}
    return [rows[each] for each in ids]


def _a_name(term: Term) -> bool:
    written = term.written
    return (
        len(written) >= _SHORTEST
        and not any(each.isdecimal() for each in written)
        and "@" not in written
        and customer_number(written.upper()) is None
    )
