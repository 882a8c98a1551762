"""What is expected of customers, the models that say it, and whom staff contacted for it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from service.core.outlook import FitCause, ModelState
from service.core.work_lists import WorkList
from service.db.schema.base import Moment, metadata, one_of

insight_models = Table(
    "insight_models",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("fitted_at", Moment, nullable=False),
    Column("seconds", Double, nullable=False, comment="that the fit took"),
    Column("cause", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("customers", Integer, nullable=False, comment="with orders, when it was fitted"),
    Column("repeaters", Integer, nullable=False, comment="of these, with orders on two days"),
    Column("lacking", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("r", Double),
    Column("alpha", Double, comment="in days"),
    Column("a", Double),
    Column("b", Double),
    Column("late", SmallInteger, comment="0: BG/NBD, 1: MBG/NBD"),
    Column("p", Double),
    Column("q", Double),
    Column("v", Double),
    Column("settled", Boolean, comment="no parameter lies at a bound"),
    Column("recency_cuts", ARRAY(Moment)),
    Column("frequency_cuts", ARRAY(Integer)),
    Column("monetary_cuts", ARRAY(Numeric)),
    Column("holdout", JSONB, comment="the test on the shop's own past; NULL: not tested"),
    one_of("cause", FitCause),
    one_of("state", ModelState),
    CheckConstraint("late IN (0, 1)", name="late"),
    CheckConstraint(
        "num_nulls(r, alpha, a, b, late, p, q, v, settled,"
        " recency_cuts, frequency_cuts, monetary_cuts)"
        f" = CASE WHEN state = '{ModelState.FITTED}' THEN 0 ELSE 12 END",
        name="fitted",
    ),
    comment="the newest one is in force; a fit deletes all but the newest 400",
)

insight_refresh = Table(
    "insight_refresh",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("fit_wanted_at", Moment, comment="somebody asked for a fit; NULL: nobody does"),
    Column("model", Integer, comment="of the circle under way, or of the last"),
    Column("next_id", BigInteger, nullable=False, server_default=text("0")),
    Column("begun_at", Moment, comment="when the circle under way or the last one began"),
    Column("busy", Double, nullable=False, server_default=text("0"), comment="seconds"),
    Column("orders", ARRAY(Double), comment="of the customers so far, for each horizon"),
    Column("revenue", ARRAY(Double)),
    Column("completed_at", Moment),
    Column("took", Double, comment="seconds of work of the last circle"),
    Column("expected_orders", ARRAY(Double), comment="of all customers, at the last circle"),
    Column("expected_revenue", ARRAY(Double)),
    CheckConstraint("one", name="single"),
    comment="a circle looks at all customers and rewrites their outlooks",
)

customer_outlook = Table(
    "customer_outlook",
    metadata,
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("order_days", Integer, nullable=False, comment="UTC days with a counted order"),
    Column("chance", REAL, nullable=False, comment="of an order within 90 days"),
    Column("orders", REAL, nullable=False, comment="expected within 365 days"),
    Column("value", REAL, nullable=False, comment="of these, in the store's currency"),
    Column("expected_on", Date),
    Column("overdue_on", Date),
    Column("rfm", SmallInteger, nullable=False, comment="recency, frequency and monetary score"),
    CheckConstraint("order_days >= 1", name="order_days"),
    CheckConstraint("chance BETWEEN 0 AND 1", name="chance"),
    CheckConstraint("orders >= 0 AND orders < 'Infinity'", name="orders"),
    CheckConstraint("value >= 0 AND value < 'Infinity'", name="value"),
    CheckConstraint("rfm BETWEEN 111 AND 555", name="rfm"),
    Index(None, "value", "customer_id"),
    Index(None, "chance", "customer_id"),
    comment="beside customers: refreshing it never touches or locks them",
    postgresql_with={"fillfactor": "70"},
)

contact_rounds = Table(
    "contact_rounds",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("list", Text, nullable=False, comment="the work list whose customers were contacted"),
    Column("marked_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("marked_by", Text, nullable=False),
    Column("contacted", Integer, nullable=False),
    Column("left_out", Integer, nullable=False, comment="by chance, to compare with"),
    Column("contacted_30", Integer, comment="who ordered within 30 days; NULL: not over yet"),
    Column("left_out_30", Integer),
    Column("contacted_90", Integer),
    Column("left_out_90", Integer),
    one_of("list", WorkList),
    comment="when staff marked a work list as contacted, and what came of it",
)

contacts = Table(
    "contacts",
    metadata,
    Column(
        "round_id",
        BigInteger,
        ForeignKey("contact_rounds.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("contacted", Boolean, nullable=False, comment="false: left out by chance"),
    Index(None, "customer_id"),
    comment="who was contacted in a round, and who was left out",
)
