"""Customers, what names them, and what staff wrote about them."""

from itertools import chain

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.order_event import REGISTERS
from service.core.segment_rules import Segment
from service.db.schema.base import Key, Moment, Total, metadata, one_of, register
from service.db.search_text import WAITING, name_order

customers = Table(
    "customers",
    metadata,
    Column("id", BigInteger, Identity(start=1001), primary_key=True),
    Column("email_key", Key, comment="the normal form of their own e-mail"),
    *chain.from_iterable(
        register(name, JSONB if name == "address" else Text) for name in REGISTERS
    ),
    Column("email_opt_in", Boolean, nullable=False, server_default=text("false")),
    Column("sms_opt_in", Boolean, nullable=False, server_default=text("false")),
    Column("notes", Text, nullable=False, server_default=text("''")),
    Column(
        "date_created",
        Moment,
        nullable=False,
        comment="earliest date of an order whose event named them, or when entered by hand",
    ),
    Column("date_updated", Moment, nullable=False, server_default=func.now()),
    Column("total_orders", Integer, nullable=False, server_default=text("0")),
    Column("total_spent", Total, nullable=False, server_default=text("0")),
    Column("first_order_date", Moment),
    Column("last_order_date", Moment),
    Column("segment", Text, nullable=False, server_default=text("'new'")),
    Column(
        "segment_sequence",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="of their latest segment change; 0: none announced yet",
    ),
    Column("segment_manual", Boolean, nullable=False, server_default=text("false")),
    Column("segment_pinned", Boolean, nullable=False, server_default=text("false")),
    Column("segment_pinned_until", Moment),
    Column("segment_held_since", Moment, comment="when a person set the segment by hand"),
    # Workers of the release before create customers by it. `identifiers` says whom an e-mail means.
    UniqueConstraint("email_key"),
    CheckConstraint("(email IS NULL) = (email_key IS NULL)", name="email_key"),
    one_of("segment", Segment),
    CheckConstraint("total_orders >= 0", name="total_orders"),
    CheckConstraint("total_spent >= 0 AND total_spent < 'NaN'", name="total_spent"),
    CheckConstraint(
        "(total_orders = 0) = (first_order_date IS NULL)"
        " AND (total_orders = 0) = (last_order_date IS NULL)",
        name="order_dates",
    ),
    CheckConstraint(
        "segment_manual = (segment_held_since IS NOT NULL)"
        " AND (segment_manual OR NOT segment_pinned AND segment_pinned_until IS NULL)"
        " AND NOT (segment_pinned AND segment_pinned_until IS NOT NULL)",
        name="hold",
    ),
    Index(None, "date_created"),
    Index(
        None,
        "segment_pinned_until",
        postgresql_where=text("segment_pinned_until IS NOT NULL"),
    ),
    # Lists are sorted by these. Every order changes them, and an update that changes a b-tree's
    # columns cannot be HOT. With BRIN it can. Workers keep it up to date: see `figures_index`.
    Index(
        "ix_customers_figures",
        "total_orders",
        "total_spent",
        "last_order_date",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 4},
    ),
    # With room for another version, an update stays on the page and leaves the indexes alone (HOT).
    postgresql_with={"fillfactor": "65"},
)

identifiers = Table(
    "identifiers",
    metadata,
    Column("identifier", Key, comment="such as email:jane@example.com"),
    Column("customer_id", BigInteger, index=True, comment="NULL: it is not a person"),
    Column("given_by", Text, comment="who gave it to them; NULL: an event did"),
    Column("since", Moment, nullable=False, server_default=func.now()),
    # A batch reads only the index. In a large shop, the table's pages would be read from disk.
    PrimaryKeyConstraint("identifier", postgresql_include=["customer_id"]),
    comment="whom e-mails, external ids, phones and ids of merged customers mean",
)

pending_merges = Table(
    "pending_merges",
    metadata,
    Column("low", BigInteger, primary_key=True, autoincrement=False),
    Column("high", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("since", Moment, nullable=False, server_default=func.now()),
    Column(
        "protected",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="one of them has too many identifiers: a person decides",
    ),
    CheckConstraint("low < high", name="pair"),
    comment="customers whom an event has put together",
)

separations = Table(
    "separations",
    metadata,
    Column("low", BigInteger, primary_key=True, autoincrement=False),
    Column("high", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("low < high", name="pair"),
    comment="customers who are two people, whatever events say",
)

customer_search = Table(
    "customer_search",
    metadata,
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("searched", Text, nullable=False, comment="what is found, folded; the name first"),
    Index(
        "ix_customer_search_searched",
        "searched",
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
    ),
    Index("ix_customer_search_name", text(name_order("searched")), "customer_id"),
    Index("ix_customer_search_waiting", "customer_id", postgresql_where=text(WAITING)),
    comment="beside customers, so that their metrics change without touching a trigram index",
)

list_walks = Table(
    "list_walks",
    metadata,
    Column("name", Key, primary_key=True),
    Column("began_at", Moment, nullable=False, index=True),
    Column("ids", ARRAY(BigInteger), nullable=False, comment="in the order of that moment"),
    Column("complete", Boolean, nullable=False, comment="nobody comes after the last of them"),
    comment="lists that somebody reads page by page while orders change their order",
)

former_emails = Table(
    "former_emails",
    metadata,
    Column("email_key", Key, primary_key=True, comment="nobody's present e-mail"),
    Column(
        "customer_id",
        BigInteger,
        ForeignKey("customers.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    comment="events go on naming people by the e-mail that staff corrected",
)

erased = Table(
    "erased",
    metadata,
    Column("email_hash", LargeBinary, primary_key=True, comment="SHA-256 of salt and identifier"),
    Column("erased_at", Moment, nullable=False, comment="orders placed until then name nobody"),
)

interactions = Table(
    "interactions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("happened_at", Moment, nullable=False),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("date_created", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("date_updated", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("removed_at", Moment, comment="for an hour its author can take it back"),
    CheckConstraint("kind IN ('call', 'email', 'meeting', 'note')", name="kind"),
    Index(None, "customer_id", "happened_at"),
    Index(None, "removed_at", postgresql_where=text("removed_at IS NOT NULL")),
    Index(
        "ix_interactions_text",
        literal_column("lower(text)").label("searched"),
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
    ),
)
