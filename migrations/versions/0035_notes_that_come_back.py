"""Keep removed interactions for an hour, and say when a segment began with an entry by hand."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.online import add_checks_online, create_index_online

revision: str = "0035"
down_revision: str | None = "0034"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CAUSES = "'order', 'time', 'manual', 'rules', 'rebuild', 'identity', 'import'"
_INDEX = "ix_interactions_removed_at"


def upgrade() -> None:
    """Widen the check while others write; add the column, and its index online."""
    add_checks_online(
        {("segment_changes", "ck_segment_changes_cause"): f"cause IN ({_CAUSES}, 'entry')"}
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE interactions ADD COLUMN IF NOT EXISTS removed_at timestamptz")
    op.execute(
        "COMMENT ON COLUMN interactions.removed_at IS 'for an hour its author can take it back'"
    )
    create_index_online(
        _INDEX,
        "interactions",
        ["removed_at"],
        postgresql_where=sa.text("removed_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Narrow the check; delete what was removed. An entry becomes a change by hand."""
    op.execute("DELETE FROM interactions WHERE removed_at IS NOT NULL")
    op.drop_column("interactions", "removed_at")
    op.drop_constraint("ck_segment_changes_cause", "segment_changes")
    op.execute("UPDATE segment_changes SET cause = 'manual' WHERE cause = 'entry'")
    op.create_check_constraint(
        op.f("ck_segment_changes_cause"), "segment_changes", f"cause IN ({_CAUSES})"
    )
