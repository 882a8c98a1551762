"""Refuse more contradictions, and remember what must not change any more."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.online import add_checks_online

revision: str = "0014"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CHECKS = {
    ("customers", "ck_customers_hold"): (
        "segment_manual = (segment_held_since IS NOT NULL)"
        " AND (segment_manual OR NOT segment_pinned AND segment_pinned_until IS NULL)"
        " AND NOT (segment_pinned AND segment_pinned_until IS NOT NULL)"
    ),
    ("segment_changes", "ck_segment_changes_previous"): (
        "previous IN ('new', 'returning', 'vip', 'at_risk', 'inactive')"
    ),
    ("losses", "ck_losses_acknowledged"): "(acknowledged_at IS NULL) = (acknowledged_by IS NULL)",
    ("dead_letters", "ck_dead_letters_attempts"): "attempts >= 1",
    ("settings_changes", "ck_settings_changes_progress"): (
        "0 <= moved AND moved <= examined AND examined <= total"
    ),
}


def upgrade() -> None:
    """Add the constraints and the columns."""
    add_checks_online(_CHECKS)
    op.add_column(
        "verification",
        sa.Column(
            "remembered",
            postgresql.JSONB,
            comment="digests of rows that must not change any more",
        ),
    )
    op.add_column(
        "installation",
        sa.Column(
            "salt_digest",
            sa.LargeBinary,
            comment="SHA-256: with another salt, no hash is found",
        ),
    )
    op.execute("UPDATE installation SET salt_digest = sha256(salt)")
    op.execute(
        "ALTER TABLE installation ADD CONSTRAINT ck_installation_salt"
        " CHECK (coalesce(salt_digest = sha256(salt), false)) NOT VALID"
    )
    op.execute("ALTER TABLE installation VALIDATE CONSTRAINT ck_installation_salt")


def downgrade() -> None:
    """Drop the columns and the constraints."""
    op.drop_constraint("ck_installation_salt", "installation")
    op.drop_column("installation", "salt_digest")
    op.drop_column("verification", "remembered")
    for table, name in _CHECKS:
        op.drop_constraint(name, table)
