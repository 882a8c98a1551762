"""To whom events are sent by HTTP, and how far that has come."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from service.core.endpoints import EventKind
from service.db.schema.base import Moment, metadata

_KINDS = ", ".join(f"'{kind}'" for kind in EventKind)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("events", ARRAY(Text), nullable=False),
    Column(
        "allow_private",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether it may be in a private network, and without TLS there",
    ),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("created_by", Text, nullable=False),
    Column(
        "version",
        Integer,
        nullable=False,
        server_default=text("1"),
        comment="rises with each decision about it; whoever sends starts again",
    ),
    Column(
        "change_cursor",
        BigInteger,
        nullable=False,
        comment="publish number up to which each segment change was sent",
    ),
    Column("removal_cursor", BigInteger, nullable=False, comment="the same for removals"),
    Column("paused_at", Moment),
    Column("paused_by", Text, comment="NULL: the service itself, or nobody"),
    Column("paused_because", Text),
    Column("delivered", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0"), comment="attempts"),
    Column("last_delivered_at", Moment),
    Column("last_event", Text, comment="id of the event that was sent last"),
    Column("last_attempt_at", Moment),
    Column("failures", Integer, nullable=False, server_default=text("0"), comment="in a row"),
    Column("failing_since", Moment, comment="first failure of the event that is next"),
    Column("next_attempt_at", Moment),
    Column("last_error", Text),
    CheckConstraint(
        f"events <@ ARRAY[{_KINDS}] AND cardinality(events) > 0",
        name="events",
    ),
    CheckConstraint("change_cursor >= 0 AND removal_cursor >= 0", name="cursors"),
    CheckConstraint("(paused_at IS NULL) = (paused_because IS NULL)", name="paused"),
    CheckConstraint(
        "(failures = 0) = (failing_since IS NULL) AND failures >= 0"
        " AND (failures = 0) = (next_attempt_at IS NULL)",
        name="failures",
    ),
    postgresql_with={"fillfactor": "50"},
    comment="addresses of other systems that events are sent to",
)

endpoint_secrets = Table(
    "endpoint_secrets",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "endpoint_id",
        ForeignKey("endpoints.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("secret", Text, nullable=False, comment="only workers may read it"),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("expires_at", Moment, comment="NULL: it signs until another one replaces it"),
    UniqueConstraint("endpoint_id", "secret"),
    CheckConstraint("secret LIKE 'whsec\\_%'", name="secret"),
)
