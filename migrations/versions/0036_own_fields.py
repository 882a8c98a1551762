"""Add the fields that admins define, and the values that customers have in them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision: str = "0036"
down_revision: str | None = "0035"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEY = sa.String(collation="C")


def upgrade() -> None:
    """Create the tables. Nobody uses them yet."""
    op.create_table(
        "own_fields",
        sa.Column("key", _KEY, primary_key=True, comment="never changes"),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("choices", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("position", sa.Integer, nullable=False, comment="among the fields, from 1"),
        sa.Column(
            "date_created",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
        sa.CheckConstraint(
            "kind IN ('text', 'number', 'date', 'choice')", name=op.f("ck_own_fields_kind")
        ),
        sa.CheckConstraint("key ~ '^[a-z][a-z0-9_]{0,39}$'", name=op.f("ck_own_fields_key")),
        sa.CheckConstraint(
            "(kind = 'choice') = (cardinality(choices) > 0)", name=op.f("ck_own_fields_choices")
        ),
    )
    op.create_table(
        "customer_fields",
        sa.Column("customer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("field_values", JSONB, nullable=False, comment="by the field's key"),
        sa.CheckConstraint(
            "jsonb_typeof(field_values) = 'object' AND field_values <> '{}'",
            name=op.f("ck_customer_fields_field_values"),
        ),
        comment="beside customers, so that no event reads or rewrites them; only those with a "
        "value",
    )
    op.create_index(  # for mentions of people who are erased
        "ix_customer_fields_field_values",
        "customer_fields",
        [sa.text("lower(field_values::text) gin_trgm_ops")],
        postgresql_using="gin",
    )


def downgrade() -> None:
    """Drop the fields."""
    op.drop_table("customer_fields")
    op.drop_table("own_fields")
