"""The segment rules, when they were changed, and every change of a segment."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from service.core.counting import CountFrom
from service.core.segment_event import Cause
from service.core.segment_rules import Precedence, Segment
from service.db.schema.base import Amount, Key, Moment, Total, metadata, one_of

settings = Table(
    "settings",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("changed_at", Moment, nullable=False, server_default=func.now()),
    Column("changed_by", Text, nullable=False),
    Column("vip_order_count", Integer, nullable=False),
    Column("vip_total_spent", Amount, nullable=False),
    Column("at_risk_days", Integer, nullable=False),
    Column("inactive_days", Integer, nullable=False),
    Column("auto_segmentation", Boolean, nullable=False),
    Column("precedence", Text, nullable=False),
    Column("count_from", Text, nullable=False, server_default=text(f"'{CountFrom.PLACED}'")),
    Column("count_free_orders", Boolean, nullable=False, server_default=text("true")),
    Column("time_zone", Text, nullable=False, server_default=text("'UTC'")),
    one_of("precedence", Precedence),
    one_of("count_from", CountFrom),
    CheckConstraint("at_risk_days >= 1 AND at_risk_days < inactive_days", name="days"),
    CheckConstraint("vip_order_count >= 1 AND vip_total_spent >= 0", name="vip"),
)

settings_changes = Table(
    "settings_changes",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("total", BigInteger, nullable=False, comment="customers to look at"),
    Column("examined", BigInteger, nullable=False, server_default=text("0")),
    Column("moved", BigInteger, nullable=False, server_default=text("0")),
    Column("last_id", BigInteger, nullable=False, server_default=text("0")),
    Column("started_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column(
        "finished_at", Moment, comment="all customers were judged, or a newer version was saved"
    ),
    # The recount of the orders. Workers of the release before do not know it.
    Column(
        "counted_since",
        Integer,
        comment="orders not reached yet count as a version from here on says; 0: nobody knows"
        " how; NULL: no recount",
    ),
    Column("orders_total", BigInteger, nullable=False, server_default=text("0")),
    Column("orders_examined", BigInteger, nullable=False, server_default=text("0")),
    Column("orders_changed", BigInteger, nullable=False, server_default=text("0")),
    Column("customers_moved", BigInteger, nullable=False, server_default=text("0")),
    Column("last_order", Key, nullable=False, server_default=text("''")),
    Column("ids_replaced", BigInteger, comment="of the installation, when the recount began"),
    Column(
        "recounted_at", Moment, comment="NULL: the recount goes on, if no newer version has one"
    ),
    CheckConstraint("0 <= moved AND moved <= examined AND examined <= total", name="progress"),
    CheckConstraint(
        "0 <= orders_changed AND orders_changed <= orders_examined"
        " AND orders_examined <= orders_total AND customers_moved >= 0",
        name="recount_progress",
    ),
)

sweep = Table(
    "sweep",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("swept_until", Moment, nullable=False, comment="whom time moved before is settled"),
    CheckConstraint("one", name="single_row"),
)

segment_changes = Table(
    "segment_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer_id", BigInteger, nullable=False),
    Column("sequence", Integer, nullable=False, comment="per customer, rising by one from 1"),
    Column("previous", Text, comment="NULL: the first segment they were given"),
    Column("segment", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("settings_version", Integer, nullable=False),
    Column("total_orders", Integer, nullable=False),
    Column("total_spent", Total, nullable=False),
    Column("last_order_date", Moment),
    Column("changed_at", Moment, nullable=False),
    Column(
        "publish_number",
        BigInteger,
        comment="the out-stream's entry id; NULL: the relay has not taken it up yet",
    ),
    Column(
        "traceparent",
        Text,
        comment="W3C Trace Context; NULL: what caused the change was not traced",
    ),
    UniqueConstraint("customer_id", "sequence"),
    one_of("segment", Segment),
    one_of("cause", Cause),
    CheckConstraint("sequence >= 1", name="sequence"),
    one_of("previous", Segment),
    Index("ix_segment_changes_outbox", "id", postgresql_where=text("publish_number IS NULL")),
    Index(
        "uq_segment_changes_publish_number",
        "publish_number",
        unique=True,
        postgresql_where=text("publish_number IS NOT NULL"),
    ),
)
