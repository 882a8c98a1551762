"""Keep the BRIN index up to date by which lists are sorted by figures.

A BRIN index says for each few pages of a table which values are there. A query reads all pages that
the index does not know yet. PostgreSQL can note new pages for its autovacuum, but it has room for
256 notes. When many customers are new, as in an import, it writes each further note into its log,
together with the whole statement: half a gigabyte for a million customers. So a worker does it.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import AdvisoryLock, try_lock

# Only the owner of an index may do this, so the function has the owner's rights. A vacuum of the
# table holds the same lock, and does the same. PostgreSQL would stop it for us after a second.
SUMMARIZE_FIGURES = """
CREATE FUNCTION summarize_figures() RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
  this oid;
BEGIN
  GET DIAGNOSTICS this = PG_ROUTINE_OID;
  RETURN brin_summarize_new_values(to_regclass(format('%s.ix_customers_figures',
    (SELECT CAST(pronamespace AS regnamespace) FROM pg_proc WHERE oid = this))));
EXCEPTION WHEN lock_not_available THEN
  RETURN NULL;
END $$
"""
"""A function that returns how many groups of pages are new in the index. NULL: a vacuum runs."""

_SUMMARIZE = text("SELECT summarize_figures()")


async def summarize(connection: AsyncConnection) -> None:
    """Take new pages of customers into the index, unless another process does; the caller commits.

    It reads the new pages, and one entry of the index for every four pages that are known.
    """
    if await try_lock(connection, AdvisoryLock.FIGURES_INDEX):
        await connection.execute(_SUMMARIZE)
