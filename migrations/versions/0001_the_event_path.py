"""Create the event path: customers, orders, segment changes, rules, counters, dead letters."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "customers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False, start=1001), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column(
            "email_key",
            sa.String(collation="C"),
            nullable=False,
            comment="lower-cased: e-mails compare without case",
        ),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("name_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("name_event", sa.String(collation="C"), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("phone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phone_event", sa.String(collation="C"), nullable=True),
        sa.Column("address", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("address_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("address_event", sa.String(collation="C"), nullable=True),
        sa.Column("email_opt_in", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("sms_opt_in", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("notes", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "date_created",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="earliest date of an order whose event named them, or when entered by hand",
        ),
        sa.Column(
            "date_updated",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("total_orders", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "total_spent",
            sa.Numeric(precision=22, scale=2),
            server_default=sa.text("0"),
            nullable=False,
        ),
        sa.Column("first_order_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_order_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("segment", sa.Text(), server_default=sa.text("'new'"), nullable=False),
        sa.Column(
            "segment_sequence",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="of their latest segment change; 0: none announced yet",
        ),
        sa.Column("segment_manual", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("segment_pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("segment_pinned_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "segment_held_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a person set the segment by hand",
        ),
        sa.CheckConstraint(
            "segment IN ('new', 'returning', 'vip', 'at_risk', 'inactive')",
            name=op.f("ck_customers_segment"),
        ),
        sa.CheckConstraint(
            "total_spent >= 0 AND total_spent < 'NaN'", name=op.f("ck_customers_total_spent")
        ),
        sa.CheckConstraint(
            "(total_orders = 0) = (first_order_date IS NULL)"
            " AND (total_orders = 0) = (last_order_date IS NULL)",
            name=op.f("ck_customers_order_dates"),
        ),
        sa.CheckConstraint("total_orders >= 0", name=op.f("ck_customers_total_orders")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
        sa.UniqueConstraint("email_key", name=op.f("uq_customers_email_key")),
        postgresql_with={"fillfactor": "30"},
    )
    op.create_index(op.f("ix_customers_date_created"), "customers", ["date_created"], unique=False)
    op.create_index(
        op.f("ix_customers_segment_pinned_until"),
        "customers",
        ["segment_pinned_until"],
        unique=False,
        postgresql_where=sa.text("segment_pinned_until IS NOT NULL"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("stream_id", sa.String(collation="C"), nullable=False),
        sa.Column("field_names", postgresql.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("field_values", postgresql.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "error", sa.Text(), nullable=False, comment="a sentence for the publisher's developer"
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "first_seen",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 over the fields"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("stream_id", "digest", name=op.f("uq_dead_letters_stream_id_digest")),
    )
    op.create_table(
        "ingest_counters",
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("read", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("applied", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stale", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("duplicate", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("conflict", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("dead_lettered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("batches", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("size_buckets", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("seconds_buckets", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_ingest_counters")),
        comment="what became of every entry read, written with it; what /metrics tells",
        postgresql_with={"fillfactor": "20"},
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(collation="C"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.String(collation="C"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("payment_status", sa.Text(), nullable=True),
        sa.Column("total", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("refunded", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("date_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("named_version", sa.BigInteger(), nullable=True),
        sa.Column("named_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("named_event_id", sa.String(collation="C"), nullable=True),
        sa.Column(
            "erased",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="the person it named was erased; without a customer it is not unattributed",
        ),
        sa.Column(
            "applied_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "counts",
            sa.Boolean(),
            sa.Computed(
                "status NOT IN ('cancelled', 'refunded')"
                " AND coalesce(payment_status NOT IN ('failed', 'refunded'), true)",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.CheckConstraint("refunded >= 0 AND refunded <= total", name=op.f("ck_orders_refunded")),
        sa.CheckConstraint("total >= 0 AND total < 1000000000000", name=op.f("ck_orders_total")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        postgresql_with={"fillfactor": "85"},
    )
    op.create_index(
        op.f("ix_orders_date_created"),
        "orders",
        ["date_created"],
        unique=False,
        postgresql_include=["customer_id", "counts"],
    )
    op.create_index(
        op.f("ix_orders_customer_id_date_created"),
        "orders",
        ["customer_id", "date_created"],
        unique=False,
    )
    op.create_index(
        "ix_orders_unattributed",
        "orders",
        ["date_created"],
        unique=False,
        postgresql_where=sa.text("customer_id IS NULL AND NOT erased"),
    )
    op.create_table(
        "relay",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("numbered", sa.BigInteger(), nullable=False, comment="last publish number given"),
        sa.Column(
            "published",
            sa.BigInteger(),
            nullable=False,
            comment="last one known to be in the stream",
        ),
        sa.CheckConstraint("one", name=op.f("ck_relay_single_row")),
        sa.CheckConstraint("published <= numbered", name=op.f("ck_relay_published")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_relay")),
    )
    op.create_table(
        "segment_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "sequence", sa.Integer(), nullable=False, comment="per customer, rising by one from 1"
        ),
        sa.Column(
            "previous", sa.Text(), nullable=True, comment="NULL: the first segment they were given"
        ),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("settings_version", sa.Integer(), nullable=False),
        sa.Column("total_orders", sa.Integer(), nullable=False),
        sa.Column("total_spent", sa.Numeric(precision=22, scale=2), nullable=False),
        sa.Column("last_order_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "publish_number",
            sa.BigInteger(),
            nullable=True,
            comment="the out-stream's entry id; NULL: the relay has not taken it up yet",
        ),
        sa.CheckConstraint(
            "cause IN ('order', 'time', 'manual', 'rules', 'rebuild')",
            name=op.f("ck_segment_changes_cause"),
        ),
        sa.CheckConstraint(
            "segment IN ('new', 'returning', 'vip', 'at_risk', 'inactive')",
            name=op.f("ck_segment_changes_segment"),
        ),
        sa.CheckConstraint("sequence >= 1", name=op.f("ck_segment_changes_sequence")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segment_changes")),
        sa.UniqueConstraint(
            "customer_id", "sequence", name=op.f("uq_segment_changes_customer_id_sequence")
        ),
    )
    op.create_index(
        "ix_segment_changes_outbox",
        "segment_changes",
        ["id"],
        unique=False,
        postgresql_where=sa.text("publish_number IS NULL"),
    )
    op.create_index(
        "uq_segment_changes_publish_number",
        "segment_changes",
        ["publish_number"],
        unique=True,
        postgresql_where=sa.text("publish_number IS NOT NULL"),
    )
    op.create_table(
        "segment_counters",
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("customers", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "total_spent",
            sa.Numeric(precision=22, scale=2),
            server_default=sa.text("0"),
            nullable=False,
        ),
        sa.Column("with_orders", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("repeat_customers", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("slot", "segment", name=op.f("pk_segment_counters")),
        comment="sums over the slots are the statistics; a single slot may be negative",
        postgresql_with={"fillfactor": "20"},
    )
    op.create_table(
        "settings",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("vip_order_count", sa.Integer(), nullable=False),
        sa.Column("vip_total_spent", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("at_risk_days", sa.Integer(), nullable=False),
        sa.Column("inactive_days", sa.Integer(), nullable=False),
        sa.Column("auto_segmentation", sa.Boolean(), nullable=False),
        sa.Column("precedence", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "precedence IN ('recency_first', 'value_first')", name=op.f("ck_settings_precedence")
        ),
        sa.CheckConstraint(
            "at_risk_days >= 1 AND at_risk_days < inactive_days", name=op.f("ck_settings_days")
        ),
        sa.CheckConstraint(
            "vip_order_count >= 1 AND vip_total_spent >= 0", name=op.f("ck_settings_vip")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_settings")),
    )
    op.create_table(
        "sweep",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "swept_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="whom time moved before is settled",
        ),
        sa.CheckConstraint("one", name=op.f("ck_sweep_single_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_sweep")),
    )
    op.create_table(
        "installation",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "salt", sa.LargeBinary(), nullable=False, comment="of the erased e-mails' hashes"
        ),
        sa.CheckConstraint("one", name=op.f("ck_installation_single_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_installation")),
    )
    op.create_table(
        "erased",
        sa.Column(
            "email_hash",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of salt and e-mail",
        ),
        sa.Column(
            "erased_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="orders placed until then name nobody",
        ),
        sa.PrimaryKeyConstraint("email_hash", name=op.f("pk_erased")),
    )
    op.execute(
        "INSERT INTO installation (salt)"
        " VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))"
    )
    op.execute("INSERT INTO relay (numbered, published) VALUES (0, 0)")
    op.execute("INSERT INTO sweep (swept_until) VALUES (now())")
    op.execute(
        "INSERT INTO settings (version, changed_by, vip_order_count, vip_total_spent,"
        " at_risk_days, inactive_days, auto_segmentation, precedence)"
        " VALUES (1, 'installation', 3, 500, 60, 90, true, 'recency_first')"
    )
    op.execute(
        "INSERT INTO segment_counters (slot, segment) SELECT slot, segment"
        " FROM generate_series(0, 7) slot,"
        " unnest(ARRAY['new', 'returning', 'vip', 'at_risk', 'inactive']) segment"
    )
    op.execute(
        "INSERT INTO ingest_counters (slot, size_buckets, seconds_buckets)"
        " SELECT slot, array_fill(0, ARRAY[6]), array_fill(0, ARRAY[11])"
        " FROM generate_series(0, 7) slot"
    )


def downgrade() -> None:
    """Drop the tables; their indexes go with them."""
    for table in (
        "erased",
        "installation",
        "sweep",
        "settings",
        "segment_counters",
        "segment_changes",
        "relay",
        "orders",
        "ingest_counters",
        "dead_letters",
        "customers",
    ):
        op.drop_table(table)
