"""Accept `import` as the cause of a segment change."""

from collections.abc import Sequence

from alembic import op

from migrations.online import add_checks_online

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CAUSES = "'order', 'time', 'manual', 'rules', 'rebuild', 'identity'"


def upgrade() -> None:
    """Widen the check while others write."""
    add_checks_online(
        {("segment_changes", "ck_segment_changes_cause"): f"cause IN ({_CAUSES}, 'import')"}
    )


def downgrade() -> None:
    """Narrow the check. What an import changed becomes a change by an order."""
    op.drop_constraint("ck_segment_changes_cause", "segment_changes")
    op.execute("UPDATE segment_changes SET cause = 'order' WHERE cause = 'import'")
    op.create_check_constraint(
        op.f("ck_segment_changes_cause"), "segment_changes", f"cause IN ({_CAUSES})"
    )
