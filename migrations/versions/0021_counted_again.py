"""Count the orders again where settings, or this release, say that other orders count.

An earlier release counted no order that a word called refunded, even if only a part was paid back,
and counted orders of which the whole total was paid back in parts. Workers count them again after
the upgrade, as after a change of the settings.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision: str = "0021"
down_revision: str | None = "0020"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CHECK = (
    "0 <= orders_changed AND orders_changed <= orders_examined"
    " AND orders_examined <= orders_total AND customers_moved >= 0"
)
_COUNTERS = ("orders_total", "orders_examined", "orders_changed", "customers_moved")
_SAYS_REFUNDED = "(status = 'refunded' OR coalesce(payment_status = 'refunded', false))"
_COUNTS = (
    "NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))"
    " OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0"
    f" AND {_SAYS_REFUNDED} ELSE {_SAYS_REFUNDED} END)"
    " OR ({count_from} = 'paid'"
    " AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))"
    " OR (total = 0 AND NOT {count_free_orders}))"
)
_COUNT_ORDER = """
CREATE OR REPLACE FUNCTION count_order() RETURNS trigger LANGUAGE plpgsql AS $$
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
  {judge}
  RETURN NEW;
END $$
"""
_JUDGE = f"""IF TG_OP = 'INSERT' OR (NEW.status, NEW.payment_status, NEW.total, NEW.refunded)
     IS DISTINCT FROM (OLD.status, OLD.payment_status, OLD.total, OLD.refunded) THEN
    SELECT {
    _COUNTS.format(count_from="counting.count_from", count_free_orders="counting.count_free_orders")
} INTO NEW.counts
    FROM (SELECT NEW.status, NEW.payment_status, NEW.total, NEW.refunded) o, (
      SELECT count_from, count_free_orders, time_zone FROM settings ORDER BY version DESC LIMIT 1
    ) counting;
  END IF;"""
_JUDGE_BY_DEFAULT = f"""SELECT {
    _COUNTS.format(count_from="'placed'", count_free_orders="true")
} INTO NEW.counts
  FROM (SELECT NEW.status, NEW.payment_status, NEW.total, NEW.refunded) o;"""


def upgrade() -> None:
    """Add the progress of a recount, and begin one if there are orders."""
    op.add_column(
        "settings_changes",
        sa.Column(
            "counted_since",
            sa.Integer,
            comment="orders not reached yet count as a version from here on says; 0: nobody knows"
            " how; NULL: no recount",
        ),
    )
    for column in _COUNTERS:
        op.add_column(
            "settings_changes",
            sa.Column(column, sa.BigInteger, nullable=False, server_default=text("0")),
        )
    op.add_column(
        "settings_changes",
        sa.Column(
            "last_order", sa.String(collation="C"), nullable=False, server_default=text("''")
        ),
    )
    op.add_column(
        "settings_changes",
        sa.Column(
            "ids_replaced", sa.BigInteger, comment="of the installation, when the recount began"
        ),
    )
    op.add_column(
        "settings_changes",
        sa.Column(
            "recounted_at",
            sa.DateTime(timezone=True),
            comment="NULL: the recount goes on, if no newer version has one",
        ),
    )
    op.alter_column(
        "settings_changes",
        "finished_at",
        comment="all customers were judged, or a newer version was saved",
    )
    op.execute(
        "ALTER TABLE settings_changes ADD CONSTRAINT ck_settings_changes_recount_progress"
        f" CHECK ({_CHECK}) NOT VALID"
    )
    op.execute(
        "ALTER TABLE settings_changes VALIDATE CONSTRAINT ck_settings_changes_recount_progress"
    )
    op.execute(_COUNT_ORDER.format(judge=_JUDGE))
    # It is finished for workers of the release before, who do not know what to do with it.
    op.execute(
        "INSERT INTO settings_changes (version, total, finished_at, counted_since)"
        " SELECT max(version), 0, clock_timestamp(), 0 FROM settings"
        " WHERE EXISTS (SELECT FROM orders)"
        " HAVING max(version) IS NOT NULL"
        " ON CONFLICT (version) DO UPDATE SET counted_since = 0"
    )


def downgrade() -> None:
    """Drop the progress. An unfinished recount ends, and orders stay as they are counted."""
    op.execute(_COUNT_ORDER.format(judge=_JUDGE_BY_DEFAULT))
    op.alter_column("settings_changes", "finished_at", comment=None)
    op.drop_constraint("ck_settings_changes_recount_progress", "settings_changes")
    for column in ("recounted_at", "ids_replaced", "last_order", *_COUNTERS, "counted_since"):
        op.drop_column("settings_changes", column)
