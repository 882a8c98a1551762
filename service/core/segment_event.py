"""The event `customer-segment-changed` as subscribers read it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.core.segment_rules import Segment


class Cause(StrEnum):
    """Why a segment changed."""

    ORDER = "order"
    TIME = "time"
    MANUAL = "manual"
    RULES = "rules"
    REBUILD = "rebuild"
    IDENTITY = "identity"
    IMPORT = "import"
    """Somebody imported a file. It may be about the distant past, so it is no news."""
    ENTRY = "entry"
    """Somebody entered a new customer, and left the segment to the rules."""


class SegmentChange(BaseModel):
    """The data of an event on the out-stream. It has no name, e-mail or phone."""

    model_config = ConfigDict(alias_generator=to_camel)

    customer_id: Annotated[str, Field(pattern=r"^CUST-\d+$", examples=["CUST-1001"])]
    previous_segment: Annotated[
        Segment | None, Field(description="null: this is their first segment")
    ]
    segment: Segment
    cause: Cause
    total_orders: int
    total_spent: Annotated[float, Field(description="two decimals, the store's currency")]
    last_order_date: datetime | None
    settings_version: int
    changed_at: datetime
    sequence: Annotated[
        int,
        Field(
            ge=1,
            description="rises by one per customer: skip what was seen; a gap is a missed event",
        ),
    ]


class SegmentChangedCloudEvent(BaseModel):
    """CloudEvents 1.0, structured mode. A duplicate has the same ``id``."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(examples=["CUST-1001:2"])]
    source: Literal["/recovery-essentials-crm"]
    type: Literal["customer-segment-changed"]
    time: datetime
    subject: Annotated[str, Field(description="the customer's id")]
    datacontenttype: Literal["application/json"]
    traceparent: Annotated[
        str | None,
        Field(description="W3C Trace Context; only if the order or request was traced"),
    ] = None
    data: SegmentChange
