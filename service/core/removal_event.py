"""The event `customer-removed` as subscribers read it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class RemovalReason(StrEnum):
    """Why a customer is gone."""

    MERGED = "merged"
    """They are the same person as another customer, who stayed."""
    ERASED = "erased"
    """The person was erased, or a restored database has lost them."""
    NOT_A_PERSON = "not_a_person"
    """What they were known by names nobody."""


class Removal(BaseModel):
    """The data of an event on the stream of removals. It has no name, e-mail or phone."""

    model_config = ConfigDict(alias_generator=to_camel)

    customer_id: Annotated[
        str,
        Field(
            pattern=r"^CUST-\d+$",
            examples=["CUST-1002"],
            description="never used again: keep it, and ignore segment changes of it",
        ),
    ]
    reason: RemovalReason
    merged_into: Annotated[
        str | None,
        Field(
            pattern=r"^CUST-\d+$",
            examples=["CUST-1001"],
            description="the customer who has the orders now; null unless `reason` is `merged`",
        ),
    ]
    removed_at: datetime


class CustomerRemovedCloudEvent(BaseModel):
    """CloudEvents 1.0, structured mode. A duplicate has the same ``id``."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(examples=["CUST-1002:removed"])]
    source: Literal["/recovery-essentials-crm"]
    type: Literal["customer-removed"]
    time: datetime
    subject: Annotated[str, Field(description="the customer's id")]
    datacontenttype: Literal["application/json"]
    data: Removal
