"""The columns in which a folded batch goes to PostgreSQL, as `service.db.columns` packs them."""

from collections.abc import Sequence
from typing import Any

from service.core.batch import OrderChange, Profile
from service.core.order_event import REGISTERS
from service.db import registers
from service.db.ingest.owners import NewCustomer

ORDERS = {
    "id": "text",
    "version": "bigint",
    "updated_at": "timestamptz",
    "sent_at": "timestamptz",
    "event_id": "text",
    "status": "text",
    "payment_status": "text",
    "total_cents": "bigint",
    "refunded_cents": "bigint",
    "date_created": "timestamptz",
    "currency": "text",
    "exchange_rate": "numeric",
    "most_refunded_cents": "bigint",
    "customer_id": "bigint",
    "identifier": "text",
    "other_identifier": "text",
    "named_version": "bigint",
    "named_at": "timestamptz",
    "named_sent_at": "timestamptz",
    "named_event_id": "text",
    "erased": "boolean",
}
PROFILES = {
    "profile_customer": "bigint",
    "profile_at": "timestamptz",
    "profile_event": "text",
    "earliest_order": "timestamptz",
    "newest_order": "timestamptz",
    **registers.KINDS,
}
NEW_CUSTOMERS = {"new_customer": "bigint", "new_email": "text", "new_since": "timestamptz"}


def of_orders(changes: Sequence[OrderChange]) -> dict[str, list[Any]]:
    """Return the columns of `ORDERS`.

    The key of an order's owner is left out if it equals the key of the order's state.
    """
    states = [change.state for change in changes]
    named = [change.named for change in changes]
    other_keys = [
        change.named[0] if change.named and change.named[0] != change.state.key else None
        for change in changes
    ]
    return {
        "id": [state.order_id for state in states],
        "version": [state.key.version for state in states],
        "updated_at": [state.key.at for state in states],
        "sent_at": [None if state.key.sent == state.key.at else state.key.sent for state in states],
        "event_id": [state.key.event_id for state in states],
        "status": [state.status for state in states],
        "payment_status": [state.payment_status for state in states],
        "total_cents": [state.total_cents for state in states],
        "refunded_cents": [state.refunded_cents for state in states],
        "date_created": [state.date_created for state in states],
        "currency": [state.currency for state in states],
        "exchange_rate": [
            None if state.exchange_rate is None else str(state.exchange_rate) for state in states
        ],
        "most_refunded_cents": [
            None if change.most_refunded == change.state.refunded_cents else change.most_refunded
            for change in changes
        ],
        "customer_id": [name and name[1].owner for name in named],
        "identifier": [name and name[1].identifiers[0] for name in named],
        "other_identifier": [
            name[1].identifiers[1] if name and len(name[1].identifiers) > 1 else None
            for name in named
        ],
        "erased": [change.erased or None for change in changes],
        "named_version": [key and key.version for key in other_keys],
        "named_at": [key and key.at for key in other_keys],
        "named_sent_at": [key and key.sent for key in other_keys],
        "named_event_id": [key and key.event_id for key in other_keys],
    }


def of_profiles(profiles: Sequence[Profile]) -> dict[str, list[Any]]:
    """Return the columns of `PROFILES`.

    A register's key is left out if it equals the key of the customer's latest event.
    """
    columns: dict[str, list[Any]] = {
        "profile_customer": [profile.customer_id for profile in profiles],
        "profile_at": [profile.key.at for profile in profiles],
        "profile_event": [profile.key.event_id for profile in profiles],
        "earliest_order": [profile.earliest_order for profile in profiles],
        "newest_order": [
            None if profile.latest_order == profile.earliest_order else profile.latest_order
            for profile in profiles
        ],
    }
    for register in REGISTERS:
        other_keys = [profile.other_keys.get(register) for profile in profiles]
        value_column, at_column, event_column = registers.columns_of(register)
        columns[value_column] = [profile.values.get(register) for profile in profiles]
        columns[at_column] = [key and key.at for key in other_keys]
        columns[event_column] = [key and key.event_id for key in other_keys]
    return columns


def of_new_customers(new: Sequence[NewCustomer]) -> dict[str, list[Any]]:
    """Return the columns of `NEW_CUSTOMERS`."""
    return {
        "new_customer": [each.id for each in new],
        "new_email": [each.email for each in new],
        "new_since": [each.earliest for each in new],
    }
