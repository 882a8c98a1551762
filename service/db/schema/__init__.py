"""The tables, as the migrations leave them. A test compares the two.

Columns that are compared as keys (ids, identifiers) have the collation "C". So Postgres sorts and
compares them exactly as Python does, whatever locale the database has.
"""

from service.db.schema import functions as functions  # added to what the metadata creates
from service.db.schema import triggers as triggers
from service.db.schema.accounts import api_keys, audit, devices, sessions, users
from service.db.schema.base import (
    COUNTER_SLOTS,
    GENERATION_SLOTS,
    Amount,
    Key,
    Moment,
    Total,
    metadata,
)
from service.db.schema.customers import (
    customer_search,
    customers,
    erased,
    former_emails,
    identifiers,
    interactions,
    list_walks,
    pending_merges,
    separations,
)
from service.db.schema.endpoints import endpoint_secrets, endpoints
from service.db.schema.groups import bulk_changed, bulk_changes, customer_tags, tags
from service.db.schema.hooks import (
    hook_deliveries,
    hook_secrets,
    hooks,
    shop_orders,
    shop_refunds,
    shop_requests,
)
from service.db.schema.imports import import_pieces, imports
from service.db.schema.operations import (
    ingest_counters,
    installation,
    losses,
    partition_counters,
    sightings,
    stream_searches,
    trims,
    verification,
)
from service.db.schema.orders import dead_letter_counters, dead_letters, order_conflicts, orders
from service.db.schema.out_streams import (
    foreign_entries,
    relay,
    removals,
    removals_relay,
    unknown_changes,
)
from service.db.schema.outlook import (
    contact_rounds,
    contacts,
    customer_outlook,
    insight_models,
    insight_refresh,
)
from service.db.schema.own_fields import customer_fields, own_fields
from service.db.schema.segments import segment_changes, settings, settings_changes, sweep
from service.db.schema.statistics import (
    daily_changes,
    daily_generations,
    daily_totals,
    kept_answers,
    reconstructions,
    segment_counters,
    span_customers,
    span_orders,
)
from service.db.schema.views import view_counts, views

__all__ = [
    "COUNTER_SLOTS",
    "GENERATION_SLOTS",
    "Amount",
    "Key",
    "Moment",
    "Total",
    "api_keys",
    "audit",
    "bulk_changed",
    "bulk_changes",
    "contact_rounds",
    "contacts",
    "customer_fields",
    "customer_outlook",
    "customer_search",
    "customer_tags",
    "customers",
    "daily_changes",
    "daily_generations",
    "daily_totals",
    "dead_letter_counters",
    "dead_letters",
    "devices",
    "endpoint_secrets",
    "endpoints",
    "erased",
    "foreign_entries",
    "former_emails",
    "hook_deliveries",
    "hook_secrets",
    "hooks",
    "identifiers",
    "import_pieces",
    "imports",
    "ingest_counters",
    "insight_models",
    "insight_refresh",
    "installation",
    "interactions",
    "kept_answers",
    "list_walks",
    "losses",
    "metadata",
    "order_conflicts",
    "orders",
    "own_fields",
    "partition_counters",
    "pending_merges",
    "reconstructions",
    "relay",
    "removals",
    "removals_relay",
    "segment_changes",
    "segment_counters",
    "separations",
    "sessions",
    "settings",
    "settings_changes",
    "shop_orders",
    "shop_refunds",
    "shop_requests",
    "sightings",
    "span_customers",
    "span_orders",
    "stream_searches",
    "sweep",
    "tags",
    "trims",
    "unknown_changes",
    "users",
    "verification",
    "view_counts",
    "views",
]
