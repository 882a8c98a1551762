"""Groups of customers: tags, and what was done to many customers at once."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from service.core.bulk_change import BulkKind
from service.db.schema.base import Key, Moment, metadata, one_of

tags = Table(
    "tags",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, comment="as somebody wrote it"),
    Column("folded", Key, nullable=False, comment="by what names are compared"),
    Column("date_created", Moment, nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("folded"),
)

bulk_changes = Table(
    "bulk_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column(
        "tag_id",
        ForeignKey("tags.id", ondelete="SET NULL"),
        index=True,
        comment="NULL: the tag is gone, so nothing can be undone",
    ),
    Column("tag", Text, nullable=False, comment="its name then"),
    Column("customers", BigInteger, nullable=False, comment="whom it changed"),
    Column("undone_at", Moment),
    Column("undone_by", Text),
    one_of("kind", BulkKind),
    CheckConstraint("(undone_at IS NULL) = (undone_by IS NULL)", name="undone"),
    comment="what was done to many customers at once",
)

bulk_changed = Table(
    "bulk_changed",
    metadata,
    Column("bulk_id", ForeignKey("bulk_changes.id", ondelete="CASCADE"), primary_key=True),
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("given_by_bulk", BigInteger, comment="which had given the tag that this one took"),
    comment="whom each bulk change changed, so that exactly that can be undone",
)

customer_tags = Table(
    "customer_tags",
    metadata,
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
    Column("given_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("bulk_id", BigInteger, comment="the bulk change that gave it; NULL: none did"),
    Index(None, "tag_id", "customer_id"),
    Index(None, "bulk_id", postgresql_where=text("bulk_id IS NOT NULL")),
    comment="beside customers, so that tags neither lock nor rewrite their rows",
)
