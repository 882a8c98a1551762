"""Store the files that are imported on the dashboard, and what came of them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0034"
down_revision: str | None = "0033"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATES = "'uploading', 'previewing', 'ready', 'importing', 'done', 'failed', 'stopped'"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "imports",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("clock_timestamp()"),
        ),
        sa.Column("begun_by", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            comment="when the file was last changed, if that is known",
        ),
        sa.Column("options", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "applies",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="whether the latest run writes; false: it is a dry run",
        ),
        sa.Column("runner", sa.Text(), comment="the web process that runs it"),
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), comment="when that process was last heard of"
        ),
        sa.Column("step", sa.Text(), comment="what it is doing"),
        sa.Column("done", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("total", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column(
            "summary",
            postgresql.JSONB(),
            comment="formats and counts of the latest run; nothing personal",
        ),
        sa.Column(
            "report", postgresql.JSONB(), comment="what the latest run says; NULL after a day"
        ),
        sa.Column("error", sa.Text(), comment="why it failed; NULL after a day"),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_imports_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_table(
        "import_pieces",
        sa.Column("import_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "part",
            sa.Text(),
            nullable=False,
            comment="the file, or the list of its refused lines",
        ),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("part IN ('file', 'refused')", name=op.f("ck_import_pieces_part")),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["imports.id"],
            name=op.f("fk_import_pieces_import_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("import_id", "part", "number", name=op.f("pk_import_pieces")),
        comment="uploaded files; deleted after the import, or after a day",
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("import_pieces")
    op.drop_table("imports")
