"""What an erasure does, what stays and until when, for the API and for the dialog."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from service.config import Config
from service.core.customer_ids import customer_ref
from service.db.customers.editing import Erased
from service.db.customers.mentions import Mention, Mentions


class Stay(NamedTuple):
    """Something that an erasure leaves, and why nobody needs to fear it."""

    what: str
    how_many: int | None
    """None: nobody counts them."""
    until: datetime | None
    """None: for good, or until the sentence says."""
    why: str
    """A sentence for people."""


def what_stays(erased: Erased, config: Config) -> list[Stay]:
    """Return what an erasure leaves, the most visible first."""
    return list(_stays(erased, timedelta(seconds=config.orders_keep_seconds)))


def _stays(erased: Erased, keep: timedelta) -> Iterator[Stay]:
    yield Stay(
        "orders",
        erased.extent.orders,
        None,
        "Orders stay for the books, without a person. Where an order ID held an e-mail, a phone or "
        "a name, a pseudonym stands in its place.",
    )
    yield Stay(
        "segmentChanges",
        None,
        None,
        "The customer ID stays with its history of segments. Both are without a name here and in "
        "the stream of segment changes.",
    )
    yield Stay(
        "streamEntries",
        None,
        erased.at + keep,
        "The order events in Redis are deleted within minutes after every program that reads them "
        "has done so. From then on nobody can read them. Their bytes may stay in Redis's memory "
        "and files until this day, or until a hundred more events have come, whichever is later.",
    )
    yield Stay(
        "databaseFiles",
        None,
        None,
        "PostgreSQL's files hold deleted rows until the next VACUUM, and examples of values until "
        "the next ANALYZE. Both run by themselves. Backups and exported files hold everything for "
        "as long as you keep them.",
    )


def mentions_json(mentions: Mentions) -> dict[str, Any]:
    """Return the texts of others that mention the person, without the texts."""
    return {
        "items": [_mention_json(mention) for mention in mentions.items],
        "complete": mentions.complete,
    }


def erasure_json(customer_id: int, erased: Erased, config: Config) -> dict[str, Any]:
    """Return the answer to an erasure."""
    extent = erased.extent
    return {
        "id": customer_ref(customer_id),
        "erasedAt": erased.at,
        "erased": {
            "interactions": extent.interactions,
            "edits": extent.edits,
            "deadLetters": extent.dead_letters,
        },
        "pseudonymisedOrderIds": extent.order_ids,
        "stays": [
            {
                "what": stay.what,
                "count": stay.how_many,
                "until": stay.until,
                "why": stay.why,
            }
            for stay in what_stays(erased, config)
        ],
        "mentions": mentions_json(erased.mentions),
    }


def page_of(mention: Mention) -> str | None:
    """Return the address of the dashboard's page that shows the text. None if there is none."""
    return f"/customers/{customer_ref(mention.customer_id)}" if mention.customer_id else None


def _mention_json(mention: Mention) -> dict[str, Any]:
    return {
        "where": mention.kind,
        "id": mention.ref,
        "action": mention.action,
        "customerId": customer_ref(mention.customer_id) if mention.customer_id else None,
        "page": page_of(mention),
        "at": mention.at,
    }
