"""Let settings say what counts, keep other currencies apart, and keep what contradicts itself.

`orders.counts` becomes an ordinary column, because a generated one cannot look at settings. A
trigger writes it for processes of the release before.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEY = sa.String(collation="C")
_MOMENT = sa.DateTime(timezone=True)
_AMOUNT = sa.Numeric(14, 2)

_NET = (
    "CASE WHEN currency IS NULL THEN total - LEAST(refunded, total)"
    " WHEN exchange_rate IS NOT NULL"
    " THEN round((total - LEAST(refunded, total)) * exchange_rate, 2)"
    " ELSE 0.00 END"
)
_SAYS_REFUNDED = "(status = 'refunded' OR coalesce(payment_status = 'refunded', false))"
_COUNTS = (
    "NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))"
    " OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0"
    f" AND {_SAYS_REFUNDED} ELSE {_SAYS_REFUNDED} END)"
    " OR ('placed' = 'paid'"
    " AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))"
    " OR (total = 0 AND NOT true))"
)
_COUNT_ORDER = f"""
CREATE FUNCTION count_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NEW.event_id <> OLD.event_id THEN
      NEW.sent_at = NULL;
      NEW.currency = NULL;
      NEW.exchange_rate = NULL;
    END IF;
    IF NEW.named_event_id IS DISTINCT FROM OLD.named_event_id THEN
      NEW.named_sent_at = NULL;
    END IF;
    IF NEW.refunded <> OLD.refunded THEN
      NEW.most_refunded = GREATEST(OLD.most_refunded, OLD.refunded);
      IF NEW.most_refunded <= NEW.refunded THEN
        NEW.most_refunded = NULL;
      END IF;
    END IF;
  END IF;
  SELECT {_COUNTS} INTO NEW.counts
  FROM (SELECT NEW.status, NEW.payment_status, NEW.total, NEW.refunded) o;
  RETURN NEW;
END $$
"""
_ON_ORDER = """
CREATE TRIGGER count_order BEFORE INSERT OR UPDATE ON orders FOR EACH ROW
WHEN (current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION count_order()
"""
_WAS_COUNTED = (
    "status NOT IN ('cancelled', 'refunded')"
    " AND coalesce(payment_status NOT IN ('failed', 'refunded'), true)"
)


def upgrade() -> None:
    """Add the columns, free `counts` from its expression, and start the trigger."""
    op.add_column(
        "orders",
        sa.Column("sent_at", _MOMENT, comment="the event's time; NULL: the same as updated_at"),
    )
    op.add_column(
        "orders", sa.Column("currency", sa.Text, comment="of total and refunded; NULL: the store's")
    )
    op.add_column(
        "orders",
        sa.Column("exchange_rate", sa.Numeric, comment="the store's currency per unit of this one"),
    )
    op.add_column(
        "orders",
        sa.Column(
            "most_refunded",
            _AMOUNT,
            comment="told once, and more than refunded: the refund fell",
        ),
    )
    op.add_column(
        "orders",
        sa.Column("named_sent_at", _MOMENT, comment="NULL: the same as named_at"),
    )
    op.add_column("orders", sa.Column("net", sa.Numeric, sa.Computed(_NET, persisted=False)))
    op.alter_column("orders", "refunded", comment="all that was refunded so far, as told")
    op.add_column(
        "settings",
        sa.Column("count_from", sa.Text, nullable=False, server_default=text("'placed'")),
    )
    op.add_column(
        "settings",
        sa.Column("count_free_orders", sa.Boolean, nullable=False, server_default=text("true")),
    )
    op.add_column(
        "settings",
        sa.Column("time_zone", sa.Text, nullable=False, server_default=text("'UTC'")),
    )
    op.add_column(
        "installation",
        sa.Column("store_currency", sa.Text, comment="set by the first start: amounts are in it"),
    )
    op.create_table(
        "order_conflicts",
        sa.Column(
            "order_id",
            _KEY,
            sa.ForeignKey("orders.id", onupdate="CASCADE", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("event_id", _KEY, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column(
            "content",
            postgresql.JSONB,
            nullable=False,
            comment="what it says of the order's state",
        ),
        sa.Column("noticed_at", _MOMENT, nullable=False, server_default=sa.func.now()),
        comment="events of the same version and times as another that says something else",
    )
    op.execute("ALTER TABLE orders ALTER COLUMN counts DROP EXPRESSION")
    op.alter_column("orders", "counts", comment="by the settings when it was written")
    op.execute(_COUNT_ORDER)
    op.execute(_ON_ORDER)


def downgrade() -> None:
    """Drop what was added. Orders that an earlier release would refuse are changed to fit."""
    op.execute("DROP TRIGGER count_order ON orders")
    op.execute("DROP FUNCTION count_order")
    op.drop_index("ix_orders_date_created", "orders")
    op.drop_column("orders", "counts")
    op.add_column(
        "orders",
        sa.Column("counts", sa.Boolean, sa.Computed(_WAS_COUNTED, persisted=True), nullable=False),
    )
    op.create_index(
        "ix_orders_date_created",
        "orders",
        ["date_created"],
        postgresql_include=["customer_id", "counts"],
    )
    op.drop_table("order_conflicts")
    op.drop_column("installation", "store_currency")
    for column in ("time_zone", "count_free_orders", "count_from"):
        op.drop_column("settings", column)
    op.drop_column("orders", "net")
    for column in ("named_sent_at", "most_refunded", "exchange_rate", "currency", "sent_at"):
        op.drop_column("orders", column)
    op.alter_column("orders", "refunded", comment=None)
