"""Accept refunds above the total, and check what revision 0019 added."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text

from migrations.online import add_checks_online, create_index_online

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CHECKS = {
    ("orders", "ck_orders_refunded"): "refunded >= 0 AND refunded < 1000000000000",
    ("orders", "ck_orders_most_refunded"): "most_refunded > refunded",
    ("orders", "ck_orders_currency"): (
        "coalesce(currency ~ '^[A-Z]{3}$', exchange_rate IS NULL)"
        " AND coalesce(exchange_rate > 0 AND exchange_rate < 'Infinity', true)"
    ),
    ("settings", "ck_settings_count_from"): "count_from IN ('placed', 'paid')",
}


def upgrade() -> None:
    """Build the index and check the rows while others write."""
    create_index_online(
        "ix_orders_other_currencies",
        "orders",
        ["customer_id", "currency"],
        postgresql_include=["total", "refunded", "counts"],
        postgresql_where=text("currency IS NOT NULL AND exchange_rate IS NULL"),
    )
    add_checks_online(_CHECKS)


def downgrade() -> None:
    """Drop the index and the checks. A refund above the total becomes the total."""
    op.drop_constraint("ck_settings_count_from", "settings")
    for name in ("ck_orders_currency", "ck_orders_most_refunded", "ck_orders_refunded"):
        op.drop_constraint(name, "orders")
    op.execute("UPDATE orders SET refunded = total WHERE refunded > total")
    op.create_check_constraint(
        op.f("ck_orders_refunded"), "orders", "refunded >= 0 AND refunded <= total"
    )
    op.drop_index("ix_orders_other_currencies", "orders")
