"""Let workers keep the index of figures up to date. Autovacuum has room for a few notes only."""

from collections.abc import Sequence

from alembic import op

revision: str = "0039"
down_revision: str | None = "0038"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SUMMARIZE_FIGURES = """
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


def upgrade() -> None:
    """Create the function that workers call, and leave nothing to autovacuum alone."""
    op.get_bind().exec_driver_sql(_SUMMARIZE_FIGURES)
    op.execute("ALTER INDEX ix_customers_figures RESET (autosummarize)")


def downgrade() -> None:
    """Leave it to autovacuum again."""
    op.execute("ALTER INDEX ix_customers_figures SET (autosummarize = true)")
    op.execute("DROP FUNCTION summarize_figures()")
