"""Users, API keys, sessions, and what staff changed."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.scopes import Role
from service.db.schema.base import Key, Moment, metadata, one_of

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("actor", Text, nullable=False, comment="the key's or the user's name"),
    Column("action", Text, nullable=False, comment="such as customer.updated"),
    Column("customer_id", BigInteger),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Index(
        "ix_audit_customer_id_id",
        "customer_id",
        "id",
        postgresql_where=text("customer_id IS NOT NULL"),
    ),
    Index(
        "ix_audit_details",
        literal_column("lower(details::text)").label("searched"),
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
        postgresql_where=text("details <> '{}'"),
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of 256 random bits"),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
    CheckConstraint("scopes <@ ARRAY['read', 'write', 'export', 'erase', 'admin']", name="scopes"),
)

users = Table(
    "users",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Key, nullable=False),
    Column("password_hash", Text, nullable=False, comment="Argon2id"),
    Column("role", Text, nullable=False),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column("last_sign_in_at", Moment),
    Column("disabled_at", Moment),
    UniqueConstraint("email_key"),
    one_of("role", Role),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True, comment="SHA-256 of 256 random bits"),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column(
        "last_seen_at",
        Moment,
        nullable=False,
        server_default=func.now(),
        comment="to the minute",
    ),
    Column("expires_at", Moment, nullable=False, comment="however it is used"),
)

devices = Table(
    "devices",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True, comment="SHA-256 of 256 random bits"),
    Column(
        "user_id",
        ForeignKey("users.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
        comment="a browser may have several users",
    ),
    Column("signed_in_at", Moment, nullable=False, server_default=func.now()),
)
