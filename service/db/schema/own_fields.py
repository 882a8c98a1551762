"""The fields that admins define, and the values that customers have in them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Table,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.own_fields import KEY_PATTERN, FieldKind
from service.db.schema.base import Key, Moment, metadata, one_of

own_fields = Table(
    "own_fields",
    metadata,
    Column("key", Key, primary_key=True, comment="never changes"),
    Column("label", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("choices", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("position", Integer, nullable=False, comment="among the fields, from 1"),
    Column("date_created", Moment, nullable=False, server_default=func.clock_timestamp()),
    one_of("kind", FieldKind),
    CheckConstraint(f"key ~ '{KEY_PATTERN}'", name="key"),
    CheckConstraint("(kind = 'choice') = (cardinality(choices) > 0)", name="choices"),
)

customer_fields = Table(
    "customer_fields",
    metadata,
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("field_values", JSONB, nullable=False, comment="by the field's key"),
    CheckConstraint(
        "jsonb_typeof(field_values) = 'object' AND field_values <> '{}'", name="field_values"
    ),
    Index(
        "ix_customer_fields_field_values",
        literal_column("lower(field_values::text)").label("searched"),
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
    ),
    comment="beside customers, so that no event reads or rewrites them; only those with a value",
)
