"""Count days of the store's time zone, and compute past days from the orders.

Daily figures belong to a generation, which is folded into their slot. Those that are there are of
generation 0, in days of UTC, and so are those that workers of the release before go on writing.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables. Ask for the days before the first one that is known."""
    op.create_table(
        "daily_generations",
        sa.Column("generation", sa.SmallInteger, sa.Identity(start=1), primary_key=True),
        sa.Column("time_zone", sa.Text, nullable=False, comment="whose days these figures are of"),
        sa.Column("counted_at", _MOMENT, comment="NULL: not complete yet, so nobody reads it"),
        sa.Column(
            "reconstructed_until",
            sa.Date,
            comment="changes up to this day come from the orders",
        ),
        sa.CheckConstraint(
            "generation BETWEEN 0 AND 2047", name=op.f("ck_daily_generations_generation")
        ),
        comment="sets of daily figures. Writers write all; readers read the newest complete one",
    )
    op.create_table(
        "reconstructions",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column(
            "requested_at", _MOMENT, nullable=False, server_default=sa.func.clock_timestamp()
        ),
        sa.Column("cause", sa.Text, nullable=False),
        sa.CheckConstraint(
            "cause IN ('upgrade', 'import', 'late_orders', 'asked')",
            name=op.f("ck_reconstructions_cause"),
        ),
        comment="requests to compute the figures of past days from the orders; deleted when done",
    )
    op.execute(
        "INSERT INTO daily_generations (generation, time_zone, counted_at)"
        " OVERRIDING SYSTEM VALUE VALUES (0, 'UTC', clock_timestamp())"
    )
    op.execute(
        "INSERT INTO reconstructions (cause) SELECT 'upgrade' WHERE EXISTS (SELECT FROM customers)"
    )
    op.create_table_comment(
        "daily_changes", "by how much the segment counters changed on a day, by when it was told"
    )
    op.create_table_comment("daily_totals", "what is dated in a day, whenever it was told")


def downgrade() -> None:
    """Drop the tables, and daily figures of other zones. `crm rebuild` then adds up the rest."""
    op.create_table_comment("daily_totals", "what is dated in a UTC day, whenever it was told")
    op.create_table_comment(
        "daily_changes",
        "by how much the segment counters changed on a UTC day, by when it was told",
    )
    op.drop_table("reconstructions")
    op.drop_table("daily_generations")
    op.execute("DELETE FROM daily_totals WHERE slot >= 16")
    op.execute("DELETE FROM daily_changes WHERE slot >= 16")
