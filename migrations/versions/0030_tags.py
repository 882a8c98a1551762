"""Add tags of customers, and a record of what was done to many customers at once."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0030"
down_revision: str | None = "0029"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)
_KEY = sa.String(collation="C")
_NOW = sa.func.clock_timestamp()


def upgrade() -> None:
    """Create the tables. Nobody uses them yet."""
    op.create_table(
        "tags",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False, comment="as somebody wrote it"),
        sa.Column("folded", _KEY, nullable=False, comment="by what names are compared"),
        sa.Column("date_created", _MOMENT, nullable=False, server_default=_NOW),
        sa.UniqueConstraint("folded", name=op.f("uq_tags_folded")),
    )
    op.create_table(
        "bulk_changes",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("at", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column(
            "tag_id",
            sa.BigInteger,
            sa.ForeignKey("tags.id", ondelete="SET NULL", name=op.f("fk_bulk_changes_tag_id")),
            comment="NULL: the tag is gone, so nothing can be undone",
        ),
        sa.Column("tag", sa.Text, nullable=False, comment="its name then"),
        sa.Column("customers", sa.BigInteger, nullable=False, comment="whom it changed"),
        sa.Column("undone_at", _MOMENT),
        sa.Column("undone_by", sa.Text),
        sa.CheckConstraint("kind IN ('add_tag', 'remove_tag')", name=op.f("ck_bulk_changes_kind")),
        sa.CheckConstraint(
            "(undone_at IS NULL) = (undone_by IS NULL)", name=op.f("ck_bulk_changes_undone")
        ),
        comment="what was done to many customers at once",
    )
    op.create_index(op.f("ix_bulk_changes_tag_id"), "bulk_changes", ["tag_id"])
    op.create_table(
        "bulk_changed",
        sa.Column(
            "bulk_id",
            sa.BigInteger,
            sa.ForeignKey(
                "bulk_changes.id", ondelete="CASCADE", name=op.f("fk_bulk_changed_bulk_id")
            ),
            primary_key=True,
        ),
        sa.Column("customer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "given_by_bulk", sa.BigInteger, comment="which had given the tag that this one took"
        ),
        comment="whom each bulk change changed, so that exactly that can be undone",
    )
    op.create_index(op.f("ix_bulk_changed_customer_id"), "bulk_changed", ["customer_id"])
    op.create_table(
        "customer_tags",
        sa.Column("customer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "tag_id",
            sa.BigInteger,
            sa.ForeignKey("tags.id", name=op.f("fk_customer_tags_tag_id")),
            primary_key=True,
        ),
        sa.Column("given_at", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("bulk_id", sa.BigInteger, comment="the bulk change that gave it; NULL: none did"),
        comment="beside customers, so that tags neither lock nor rewrite their rows",
    )
    op.create_index(
        op.f("ix_customer_tags_tag_id_customer_id"), "customer_tags", ["tag_id", "customer_id"]
    )
    op.create_index(
        op.f("ix_customer_tags_bulk_id"),
        "customer_tags",
        ["bulk_id"],
        postgresql_where=sa.text("bulk_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop the tags."""
    for table in ("customer_tags", "bulk_changed", "bulk_changes", "tags"):
        op.drop_table(table)
