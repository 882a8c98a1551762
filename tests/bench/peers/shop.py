"""Shared by the peers: tables, models of the events, the segment rules in Python."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pydantic import BaseModel, Field, Json
from sqlalchemy import BigInteger, DateTime, ForeignKey, MetaData, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "peer"
CHANGES = "customer-segment-changed"

DATABASE_URL = os.environ.get("CRM_DATABASE_URL", "").replace(
    "postgresql://", "postgresql+asyncpg://"
)
REDIS_URL = os.environ.get("CRM_REDIS_URL", "")
STREAM = os.environ.get("CRM_ORDERS_STREAM", "orders")
GROUP = os.environ.get("CRM_ORDERS_GROUP", "crm")


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA)


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    phone: Mapped[str | None]
    address: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    total_orders: Mapped[int] = mapped_column(default=0)
    total_spent: Mapped[Decimal] = mapped_column(Numeric(14, 2), default=Decimal(0))
    first_order_date: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_order_date: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    segment: Mapped[str] = mapped_column(default="new")


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id), index=True)
    version: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    event_id: Mapped[str]
    status: Mapped[str]
    payment_status: Mapped[str | None]
    total: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    refunded: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    date_created: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CustomerData(BaseModel):
    email: str
    name: str | None = None
    phone: str | None = None


class OrderData(BaseModel):
    id: str
    version: int = 0
    customer: CustomerData
    status: str
    payment_status: str | None = Field(None, alias="paymentStatus")
    total: Decimal = Field(alias="totalAmount")
    refunded: Decimal = Field(Decimal(0), alias="refundedAmount")
    address: dict[str, str] | None = Field(None, alias="shippingAddress")
    date_created: datetime = Field(alias="dateCreated")
    date_updated: datetime = Field(alias="dateUpdated")


class OrderEvent(BaseModel):
    id: str
    type: str
    data: OrderData

    @property
    def key(self) -> tuple[int, datetime, str]:
        """The key by which an order's events are ordered."""
        return (self.data.version, self.data.date_updated, self.id)


class StreamEntry(BaseModel):
    """The fields of an entry, as FastStream passes them in a batch."""

    data: Json[OrderEvent]


class SegmentChanged(BaseModel):
    email: str
    previous: str | None
    segment: str


NOT_COUNTED = ("cancelled", "refunded")
NOT_PAID = ("failed", "refunded")


def segment_of(orders: int, spent: Decimal, last: datetime | None) -> str:
    """Return a customer's segment by the default rules."""
    silent = datetime.now(UTC) - last if last else timedelta()
    if silent >= timedelta(days=90):
        return "inactive"
    if silent >= timedelta(days=60):
        return "at_risk"
    if orders >= 3 or spent >= 500:
        return "vip"
    return "new" if orders <= 1 else "returning"


async def create_tables(engine: AsyncEngine) -> None:
    """Create empty tables."""
    async with engine.begin() as connection:
        await connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        await connection.run_sync(Base.metadata.create_all)


def connect() -> AsyncEngine:
    """Return the connection pool that a service would have."""
    return create_async_engine(DATABASE_URL, pool_size=5)
