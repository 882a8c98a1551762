"""What each role of ``deploy/postgres/roles.sql`` may write. ``crm migrate`` grants it.

That file lets every role read all tables, and a worker write their rows. It cannot name tables: it
runs before there are any, and each release may add some. What only one role may read is taken from
the others here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

WORKER, WEB, VERIFY = "crm_worker", "crm_web", "crm_verify"

WEB_WRITES: Mapping[str, str] = {
    "api_keys": "UPDATE",
    "audit": "INSERT, UPDATE",
    "bulk_changed": "INSERT, UPDATE, DELETE",
    "bulk_changes": "INSERT, UPDATE",
    "contact_rounds": "INSERT",
    "contacts": "INSERT, UPDATE, DELETE",
    "customer_fields": "INSERT, UPDATE, DELETE",
    "customer_outlook": "DELETE",
    "customer_search": "INSERT, UPDATE, DELETE",
    "customer_tags": "INSERT, UPDATE, DELETE",
    "customers": "INSERT, UPDATE, DELETE",
    "daily_changes": "INSERT, UPDATE",
    "daily_totals": "INSERT, UPDATE",
    "dead_letter_counters": "INSERT, UPDATE",
    "dead_letters": "UPDATE, DELETE",
    "devices": "INSERT, UPDATE, DELETE",
    "endpoint_secrets": "INSERT, UPDATE (expires_at), DELETE",
    "endpoints": "INSERT, UPDATE, DELETE",
    "erased": "INSERT, UPDATE",
    "foreign_entries": "UPDATE",
    "former_emails": "INSERT, UPDATE, DELETE",
    "hook_deliveries": "INSERT, UPDATE",
    "hooks": "UPDATE",
    "identifiers": "INSERT, UPDATE, DELETE",
    "import_pieces": "INSERT, DELETE",
    "imports": "INSERT, UPDATE, DELETE",
    "insight_refresh": "UPDATE (fit_wanted_at)",
    "installation": "UPDATE (ids_replaced, erasures, late_events, reassignments, store_currency)",
    "interactions": "INSERT, UPDATE, DELETE",
    "list_walks": "INSERT, UPDATE, DELETE",
    "losses": "UPDATE",
    "order_conflicts": "INSERT, UPDATE, DELETE",
    "orders": "INSERT, UPDATE",
    "own_fields": "INSERT, UPDATE, DELETE",
    "pending_merges": "INSERT, UPDATE, DELETE",
    "reconstructions": "INSERT",
    "removals": "INSERT",
    "segment_changes": "INSERT, UPDATE",
    "segment_counters": "UPDATE",
    "separations": "INSERT, UPDATE, DELETE",
    "sessions": "INSERT, UPDATE, DELETE",
    "settings": "INSERT",
    "settings_changes": "INSERT, UPDATE",
    "shop_orders": "INSERT, UPDATE",
    "shop_refunds": "INSERT",
    "shop_requests": "INSERT, UPDATE",
    "tags": "INSERT, UPDATE, DELETE",
    "users": "UPDATE",
    "view_counts": "DELETE",
    "views": "INSERT, UPDATE, DELETE",
}
"""How web processes write the tables that they write."""

WEB_READS = frozenset(
    {
        "daily_generations",
        "hook_secrets",
        "ingest_counters",
        "insight_models",
        "kept_answers",
        "partition_counters",
        "relay",
        "removals_relay",
        "sightings",
        "span_customers",
        "span_orders",
        "stream_searches",
        "sweep",
        "trims",
        "unknown_changes",
        "verification",
    }
)
"""The other tables. Web processes never write them."""

WEB_NUMBERS = "customers_id_seq"
"""The sequence whose numbers web processes take: they apply the events of dead letters, and an
identifier is given to a new customer before the customer is written. An import moves it beyond the
ids that a file states."""

VERIFY_WRITES: Mapping[str, str] = {"verification": "INSERT, UPDATE"}
"""How ``crm verify`` writes the only table that it writes."""


class Guarded(NamedTuple):
    """Who may read a table with a secret."""

    reader: str
    """The role whose processes need the secret."""
    others: str
    """The columns that the other roles may read."""


GUARDED: Mapping[str, Guarded] = {
    "endpoint_secrets": Guarded(WORKER, "id, endpoint_id, created_at, expires_at"),
    "hook_secrets": Guarded(WEB, "id, hook_id, date_created, expires_at"),
}
"""The tables with secrets that one kind of process needs, and no other."""

_ROLES = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
_REVISION_TABLE = "alembic_version"


async def grant_writes(connection: AsyncConnection) -> None:
    """Let each role do what is listed here and nothing else; the caller commits.

    A role that does not exist is left out: the service also runs with the owner alone.
    """
    names = [WORKER, WEB, VERIFY]
    existing = set((await connection.execute(_ROLES, {"names": names})).scalars())
    schema = await connection.scalar(text("SELECT quote_ident(current_schema())"))
    for role, writes in ((WEB, WEB_WRITES), (VERIFY, VERIFY_WRITES)):
        if role not in existing:
            continue
        await connection.execute(
            text(f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} FROM {role}")
        )
        for table, rights in writes.items():
            await connection.execute(text(f"GRANT {rights} ON {table} TO {role}"))
    if WEB in existing:
        await connection.execute(
            text(f"GRANT USAGE, SELECT, UPDATE ON SEQUENCE {WEB_NUMBERS} TO {WEB}")
        )
    for table, guarded in GUARDED.items():
        for role in existing - {guarded.reader}:
            await connection.execute(text(f"REVOKE SELECT ON {table} FROM {role}"))
            await connection.execute(text(f"GRANT SELECT ({guarded.others}) ON {table} TO {role}"))
    if WORKER in existing:  # it may write every table of the service, and this one is Alembic's
        await connection.execute(
            text(f"REVOKE INSERT, UPDATE, DELETE ON {_REVISION_TABLE} FROM {WORKER}")
        )
