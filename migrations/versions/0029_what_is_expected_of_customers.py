"""Add what is expected of customers, the models that say it, and whom staff contacted for it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

revision: str = "0029"
down_revision: str | None = "0028"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)
_PARAMETERS = "r, alpha, a, b, late, p, q, v, settled, recency_cuts, frequency_cuts, monetary_cuts"
_LISTS = "'lapsing', 'overdue', 'win_back', 'quiet_vips', 'second_order'"


def upgrade() -> None:
    """Create the tables. Workers fit the first model when there are enough orders."""
    op.create_table(
        "insight_models",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("fitted_at", _MOMENT, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False, comment="that the fit took"),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column(
            "customers", sa.Integer, nullable=False, comment="with orders, when it was fitted"
        ),
        sa.Column(
            "repeaters", sa.Integer, nullable=False, comment="of these, with orders on two days"
        ),
        sa.Column("lacking", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("r", sa.Double),
        sa.Column("alpha", sa.Double, comment="in days"),
        sa.Column("a", sa.Double),
        sa.Column("b", sa.Double),
        sa.Column("late", sa.SmallInteger, comment="0: BG/NBD, 1: MBG/NBD"),
        sa.Column("p", sa.Double),
        sa.Column("q", sa.Double),
        sa.Column("v", sa.Double),
        sa.Column("settled", sa.Boolean, comment="no parameter lies at a bound"),
        sa.Column("recency_cuts", ARRAY(_MOMENT)),
        sa.Column("frequency_cuts", ARRAY(sa.Integer)),
        sa.Column("monetary_cuts", ARRAY(sa.Numeric)),
        sa.Column("holdout", JSONB, comment="the test on the shop's own past; NULL: not tested"),
        sa.CheckConstraint("cause IN ('daily', 'hand')", name=op.f("ck_insight_models_cause")),
        sa.CheckConstraint(
            "state IN ('fitted', 'too_little')", name=op.f("ck_insight_models_state")
        ),
        sa.CheckConstraint("late IN (0, 1)", name=op.f("ck_insight_models_late")),
        sa.CheckConstraint(
            f"num_nulls({_PARAMETERS}) = CASE WHEN state = 'fitted' THEN 0 ELSE 12 END",
            name=op.f("ck_insight_models_fitted"),
        ),
        comment="the newest one is in force; a fit deletes all but the newest 400",
    )
    op.create_table(
        "insight_refresh",
        sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.text("true")),
        sa.Column("fit_wanted_at", _MOMENT, comment="somebody asked for a fit; NULL: nobody does"),
        sa.Column("model", sa.Integer, comment="of the circle under way, or of the last"),
        sa.Column("next_id", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("begun_at", _MOMENT, comment="when the circle under way or the last one began"),
        sa.Column(
            "busy",
            sa.Double,
            nullable=False,
            server_default=sa.text("0"),
            comment="seconds",
        ),
        sa.Column("orders", ARRAY(sa.Double), comment="of the customers so far, for each horizon"),
        sa.Column("revenue", ARRAY(sa.Double)),
        sa.Column("completed_at", _MOMENT),
        sa.Column("took", sa.Double, comment="seconds of work of the last circle"),
        sa.Column(
            "expected_orders", ARRAY(sa.Double), comment="of all customers, at the last circle"
        ),
        sa.Column("expected_revenue", ARRAY(sa.Double)),
        sa.CheckConstraint("one", name=op.f("ck_insight_refresh_single")),
        comment="a circle looks at all customers and rewrites their outlooks",
    )
    op.execute("INSERT INTO insight_refresh DEFAULT VALUES")
    op.create_table(
        "customer_outlook",
        sa.Column("customer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "order_days", sa.Integer, nullable=False, comment="UTC days with a counted order"
        ),
        sa.Column("chance", REAL, nullable=False, comment="of an order within 90 days"),
        sa.Column("orders", REAL, nullable=False, comment="expected within 365 days"),
        sa.Column("value", REAL, nullable=False, comment="of these, in the store's currency"),
        sa.Column("expected_on", sa.Date),
        sa.Column("overdue_on", sa.Date),
        sa.Column(
            "rfm",
            sa.SmallInteger,
            nullable=False,
            comment="recency, frequency and monetary score",
        ),
        sa.CheckConstraint("order_days >= 1", name=op.f("ck_customer_outlook_order_days")),
        sa.CheckConstraint("chance BETWEEN 0 AND 1", name=op.f("ck_customer_outlook_chance")),
        sa.CheckConstraint(
            "orders >= 0 AND orders < 'Infinity'", name=op.f("ck_customer_outlook_orders")
        ),
        sa.CheckConstraint(
            "value >= 0 AND value < 'Infinity'", name=op.f("ck_customer_outlook_value")
        ),
        sa.CheckConstraint("rfm BETWEEN 111 AND 555", name=op.f("ck_customer_outlook_rfm")),
        comment="beside customers: refreshing it never touches or locks them",
        postgresql_with={"fillfactor": "70"},
    )
    for column in ("value", "chance"):
        op.create_index(
            f"ix_customer_outlook_{column}_customer_id", "customer_outlook", [column, "customer_id"]
        )
    op.create_table(
        "contact_rounds",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column(
            "list", sa.Text, nullable=False, comment="the work list whose customers were contacted"
        ),
        sa.Column("marked_at", _MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("marked_by", sa.Text, nullable=False),
        sa.Column("contacted", sa.Integer, nullable=False),
        sa.Column("left_out", sa.Integer, nullable=False, comment="by chance, to compare with"),
        sa.Column(
            "contacted_30", sa.Integer, comment="who ordered within 30 days; NULL: not over yet"
        ),
        sa.Column("left_out_30", sa.Integer),
        sa.Column("contacted_90", sa.Integer),
        sa.Column("left_out_90", sa.Integer),
        sa.CheckConstraint(f"list IN ({_LISTS})", name=op.f("ck_contact_rounds_list")),
        comment="when staff marked a work list as contacted, and what came of it",
    )
    op.create_table(
        "contacts",
        sa.Column("round_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("customer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("contacted", sa.Boolean, nullable=False, comment="false: left out by chance"),
        sa.ForeignKeyConstraint(
            ["round_id"],
            ["contact_rounds.id"],
            name=op.f("fk_contacts_round_id"),
            ondelete="CASCADE",
        ),
        comment="who was contacted in a round, and who was left out",
    )
    op.create_index("ix_contacts_customer_id", "contacts", ["customer_id"])


def downgrade() -> None:
    """Drop the tables. What staff marked as contacted is lost."""
    for table in (
        "contacts",
        "contact_rounds",
        "customer_outlook",
        "insight_refresh",
        "insight_models",
    ):
        op.drop_table(table)
