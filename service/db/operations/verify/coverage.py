"""By what each column of each table is checked.

A test damages every column of a database with rows in every table, and expects what stands here. So
a new column needs an entry: the invariant that finds a wrong value, the constraint that refuses it,
or the reason why nobody can know. `crm verify --coverage` prints the list.
"""

from dataclasses import dataclass

from service.core.order_event import REGISTERS
from service.core.segment_rules import SegmentSettings
from service.db.figures import FIGURES
from service.db.registers import columns_of


@dataclass(frozen=True)
class Checked:
    """`crm verify` recomputes it, or compares it with something else."""

    invariant: int

    def __str__(self) -> str:
        """Return the entry as the list has it."""
        return f"invariant {self.invariant}"


@dataclass(frozen=True)
class Refused:
    """The database refuses a wrong value."""

    constraint: str

    def __str__(self) -> str:
        """Return the entry as the list has it."""
        return f"refused: {self.constraint}"


@dataclass(frozen=True)
class Unknowable:
    """Nothing else that is stored says what is right."""

    reason: str

    def __str__(self) -> str:
        """Return the entry as the list has it."""
        return f"cannot be known: {self.reason}"


_TYPED = Unknowable("a person typed it; the audit has who changed it, and when")
_CLOCK = Unknowable("our clock at that moment; nothing else records it, and a clock may step back")
_SLOT = Unknowable("only sums over the slots are read, so the slot means nothing")
_SECRET = Unknowable("only a hash is kept; a wrong one lets nobody in")
_OBSERVED = Unknowable("what Redis was last seen to have; a worker renews it each second")
_SHOWN = Unknowable("progress that people are shown; nothing relies on it")
_LOST = Unknowable("the only record of entries that are gone; `crm losses` shows it")
_SEARCHED = Unknowable("counts what started a search of the streams, which may be repeated")
_TOLD = Unknowable("what events said that were replaced; Redis may not have them any more")
_WALKED = Unknowable("the order in which a list was read; it is dropped after an hour")
_CHOSEN = Unknowable("a person chose it; the audit has it under hook.created")
_SHOP = Unknowable("what a shop said in a webhook; nothing else records it")
_CACHED = Unknowable("a cache; a worker computes it again")
_UPLOADED = Unknowable("what somebody has sent; a file is gone after a day")
_THIS = Unknowable("the result of the last verification; the next one writes it anew")
_OVER = Unknowable("counted once, from orders that may have changed since")
_TAGGED = Unknowable("a person did it; the audit has it under customers.tagged")
_SINGLE = Refused("the check that there is one row")

COVERAGE: dict[str, dict[str, Checked | Refused | Unknowable]] = {
    "alembic_version": {
        "version_num": Unknowable("Alembic's; each process compares it with its own release"),
    },
    "api_keys": {
        "id": _SECRET,
        "name": Checked(10),
        "secret_hash": _SECRET,
        "scopes": Checked(10),
        "date_created": _CLOCK,
        "expires_at": Unknowable("a person chose it; the audit has it under key.created"),
        "last_used_at": _CLOCK,
        "revoked_at": Checked(10),
    },
    "audit": {
        **dict.fromkeys(("id", "at", "actor", "action", "customer_id"), Checked(10)),
        # An erasure empties the details of what was done to the person, so these are not compared.
        "details": Checked(10),
    },
    "bulk_changed": {
        "bulk_id": Refused("fk_bulk_changed_bulk_id"),
        "customer_id": Checked(9),
        "given_by_bulk": _SHOWN,
    },
    "bulk_changes": {
        "id": Refused("fk_bulk_changed_bulk_id"),
        **dict.fromkeys(("at", "undone_at"), _CLOCK),
        "kind": Refused("ck_bulk_changes_kind"),
        "tag_id": Refused("fk_bulk_changes_tag_id"),
        **dict.fromkeys(("actor", "tag", "customers", "undone_by"), _TAGGED),
    },
    "customer_tags": {
        "customer_id": Checked(9),
        "tag_id": Refused("fk_customer_tags_tag_id"),
        "given_at": _CLOCK,
        "bulk_id": _TAGGED,
    },
    "contact_rounds": {
        "id": Checked(10),
        "list": Refused("ck_contact_rounds_list"),
        "marked_at": _CLOCK,
        "marked_by": _TYPED,
        **dict.fromkeys(("contacted", "left_out"), _OVER),
        **dict.fromkeys(("contacted_30", "left_out_30", "contacted_90", "left_out_90"), _OVER),
    },
    "contacts": {
        "round_id": Refused("fk_contacts_round_id"),
        "customer_id": Checked(11),
        "contacted": Unknowable("drawn by chance, or chosen by a person"),
    },
    "customer_fields": dict.fromkeys(("customer_id", "field_values"), Checked(9)),
    "customer_outlook": dict.fromkeys(
        (
            "customer_id",
            "order_days",
            "chance",
            "orders",
            "value",
            "expected_on",
            "overdue_on",
            "rfm",
        ),
        Checked(11),
    ),
    "customers": {
        "id": Checked(5),
        "email_key": Checked(9),
        **{
            column: Checked(3) for register in REGISTERS for column in columns_of(register)
        },  # as far as Redis still has the event
        "email": Checked(9),
        "name": Checked(9),
        "phone": Checked(9),
        "email_opt_in": _TYPED,
        "sms_opt_in": _TYPED,
        "notes": Checked(9),
        "date_created": Checked(7),
        "date_updated": _CLOCK,
        "total_orders": Checked(1),
        "total_spent": Checked(1),
        "first_order_date": Checked(1),
        "last_order_date": Checked(1),
        "segment": Checked(5),
        "segment_sequence": Checked(5),
        "segment_manual": Refused("ck_customers_hold"),
        "segment_pinned": Refused("ck_customers_hold"),
        "segment_pinned_until": Refused("ck_customers_hold"),
        "segment_held_since": _TYPED,
    },
    "customer_search": {"customer_id": Checked(9), "searched": Checked(9)},
    "daily_changes": {
        "day": Checked(10),
        "slot": Checked(7),
        "segment": Checked(7),
        **dict.fromkeys(FIGURES, Checked(7)),
    },
    "daily_generations": {
        "generation": Checked(7),
        "time_zone": Checked(7),
        "counted_at": _CLOCK,
        "reconstructed_until": Unknowable("only the orders of that time could tell"),
    },
    "daily_totals": {
        "day": Checked(7),
        "slot": Checked(7),
        "created": Checked(7),
        "orders": Checked(7),
        "revenue": Checked(7),
    },
    "dead_letters": {
        "id": Checked(10),
        "stream_id": Checked(10),
        "field_names": Checked(10),
        "field_values": Checked(10),
        "reason": Checked(10),
        "error": Unknowable("a sentence by the release that refused the entry"),
        "attempts": Unknowable("how often it was refused; counted nowhere else"),
        "first_seen": _CLOCK,
        "last_seen": _CLOCK,
        "digest": Checked(10),
        "partition": Checked(10),
        "size": Checked(10),
        "stored": Checked(10),
        "whole_digest": Unknowable("the digest of bytes that were not kept"),
        "identifiers": Checked(10),
        "hints": Checked(10),
        **dict.fromkeys(
            ("order_id", "order_version", "order_changed_at"),
            Unknowable("read from the entry once; the entry's digest is checked, and may be cut"),
        ),
    },
    "dead_letter_counters": {
        "fate": Refused("ck_dead_letter_counters_fate"),
        "slot": _SLOT,
        "letters": Checked(2),
    },
    "devices": {
        "token_hash": _SECRET,
        "user_id": Refused("fk_devices_user_id"),
        "signed_in_at": _CLOCK,
    },
    "endpoint_secrets": {
        "id": Unknowable("says only which secret is the newest"),
        "endpoint_id": Refused("fk_endpoint_secrets_endpoint_id"),
        "secret": Refused("ck_endpoint_secrets_secret"),
        "created_at": _CLOCK,
        "expires_at": Unknowable("a person chose it; the audit has it"),
    },
    "endpoints": {
        "id": Refused("fk_endpoint_secrets_endpoint_id"),
        **dict.fromkeys(("url", "description", "allow_private", "created_by"), _TYPED),
        "events": Refused("ck_endpoints_events"),
        "created_at": _CLOCK,
        "version": Unknowable("compared only with what whoever sends has read"),
        "change_cursor": Checked(6),
        "removal_cursor": Checked(6),
        "paused_at": Refused("ck_endpoints_paused"),
        "paused_because": Refused("ck_endpoints_paused"),
        **dict.fromkeys(
            (
                "paused_by",
                "delivered",
                "failed",
                "last_delivered_at",
                "last_event",
                "last_attempt_at",
                "last_error",
            ),
            _SHOWN,
        ),
        **dict.fromkeys(
            ("failures", "failing_since", "next_attempt_at"), Refused("ck_endpoints_failures")
        ),
    },
    "erased": {"email_hash": Checked(9), "erased_at": Checked(9)},
    "foreign_entries": {
        "id": Checked(10),
        **dict.fromkeys(
            ("stream", "first_id", "last_id", "entries", "reason", "sample"),
            Unknowable("the only record of what somebody else wrote; `crm foreign` shows it"),
        ),
        "kind": Refused("ck_foreign_entries_kind"),
        "noticed_at": _CLOCK,
        "last_noticed_at": _CLOCK,
        "acknowledged_at": _SHOWN,
        "acknowledged_by": _SHOWN,
    },
    "former_emails": dict.fromkeys(
        ("email_key", "customer_id"), Unknowable("only processes of the release before read it")
    ),
    "hook_deliveries": {
        "hook_id": Refused("fk_hook_deliveries_hook_id"),
        "topic": _SHOWN,
        "outcome": Refused("ck_hook_deliveries_outcome"),
        "deliveries": _SHOWN,
        "last_at": _CLOCK,
    },
    "hook_secrets": {
        "id": Unknowable("only says which of them is the latest"),
        "hook_id": Refused("fk_hook_secrets_hook_id"),
        "sealed": Unknowable("encrypted; a wrong one cannot be opened, and fits no signature"),
        "date_created": _CLOCK,
        "expires_at": Unknowable("a person chose it"),
    },
    "hooks": {
        "id": Refused("fk_hook_secrets_hook_id"),
        "platform": _CHOSEN,
        "domain": _CHOSEN,
        "date_created": _CLOCK,
        "last_delivery_at": _CLOCK,
        "last_failure_at": Refused("ck_hooks_last_failure"),
        "last_failure": Refused("ck_hooks_last_failure"),
    },
    "identifiers": {
        "identifier": Checked(9),
        "customer_id": Checked(9),
        "given_by": Unknowable("the audit has who gave it, if a person did"),
        "since": _CLOCK,
    },
    "import_pieces": {
        "import_id": Refused("fk_import_pieces_import_id"),
        "part": Refused("ck_import_pieces_part"),
        **dict.fromkeys(("number", "content"), _UPLOADED),
    },
    "imports": {
        "id": Checked(10),
        "state": Refused("ck_imports_state"),
        **dict.fromkeys(
            ("file_name", "size", "changed_at", "options", "runner", "applies"), _UPLOADED
        ),
        **dict.fromkeys(("begun_at", "seen_at", "finished_at"), _CLOCK),
        **dict.fromkeys(
            ("begun_by", "summary"), Unknowable("the audit has it under file.imported")
        ),
        **dict.fromkeys(("step", "done", "total", "report", "error"), _SHOWN),
    },
    "ingest_counters": {
        "slot": Checked(7),
        **dict.fromkeys(
            (
                "read",
                "applied",
                "stale",
                "duplicate",
                "conflict",
                "dead_lettered",
                "batches",
                "seconds",
                "size_buckets",
                "seconds_buckets",
            ),
            Checked(2),
        ),
    },
    "insight_models": {
        "id": Checked(10),
        "fitted_at": _CLOCK,
        "seconds": _SHOWN,
        "cause": Refused("ck_insight_models_cause"),
        "state": Refused("ck_insight_models_state"),
        # Outlooks are computed from these, and checked.
        **dict.fromkeys(("r", "alpha", "a", "b", "p", "q", "v"), Checked(11)),
        "late": Refused("ck_insight_models_late"),
        **dict.fromkeys(
            (
                "customers",
                "repeaters",
                "lacking",
                "settled",
                "recency_cuts",
                "frequency_cuts",
                "monetary_cuts",
                "holdout",
            ),
            Unknowable("what the shop was like when it was fitted; the next fit finds it again"),
        ),
    },
    "insight_refresh": {
        "one": _SINGLE,
        "fit_wanted_at": _CLOCK,
        **dict.fromkeys(
            (
                "model",
                "next_id",
                "begun_at",
                "busy",
                "orders",
                "revenue",
                "completed_at",
                "took",
                "expected_orders",
                "expected_revenue",
            ),
            Unknowable("how far the circle has come, and its sums; the next one writes them anew"),
        ),
    },
    "installation": {
        "one": _SINGLE,
        "salt": Refused("ck_installation_salt"),
        "salt_digest": Refused("ck_installation_salt"),
        "sign_in_since": _CLOCK,
        **dict.fromkeys(("ids_replaced", "erasures", "late_events"), _SEARCHED),
        "store_currency": _TYPED,
        "reassignments": Unknowable("compared with itself, by batches that run meanwhile"),
    },
    "interactions": {
        "id": Checked(10),
        "customer_id": Checked(9),
        "kind": Refused("ck_interactions_kind"),
        "happened_at": _TYPED,
        "author": _TYPED,
        "text": _TYPED,
        "date_created": _CLOCK,
        "date_updated": _CLOCK,
        "removed_at": _CLOCK,
    },
    "kept_answers": {
        "name": _CACHED,
        "as_of": Checked(7),
        "seconds": Checked(7),
        "answer": _CACHED,
    },
    "list_walks": dict.fromkeys(("name", "began_at", "ids", "complete"), _WALKED),
    "losses": {
        "id": Checked(10),
        "stream": _LOST,
        "kind": Refused("ck_losses_kind"),
        "after_id": _LOST,
        "until_id": _LOST,
        "entries": _LOST,
        "since": _LOST,
        "noticed_at": _CLOCK,
        "last_noticed_at": _CLOCK,
        "acknowledged_at": Refused("ck_losses_acknowledged"),
        "acknowledged_by": Refused("ck_losses_acknowledged"),
    },
    "order_conflicts": {
        "order_id": Refused("fk_order_conflicts_order_id"),
        **dict.fromkeys(("event_id", "version", "updated_at", "sent_at", "content"), _TOLD),
        "noticed_at": _CLOCK,
    },
    "orders": {
        # What only the event says can be compared as long as Redis has the event. A key that is
        # too great looks like that of a later event, so only an older one is found.
        "id": Checked(3),
        "version": Checked(3),
        "updated_at": Checked(3),
        "sent_at": Checked(3),
        "event_id": Checked(3),
        "status": Checked(3),
        "payment_status": Checked(3),
        "total": Checked(1),
        "refunded": Checked(1),
        "currency": Checked(1),
        "exchange_rate": Checked(1),
        "date_created": Checked(1),
        "customer_id": Checked(1),
        "identifier": Checked(9),
        "other_identifier": Checked(9),
        "named_version": Checked(3),
        "named_at": Checked(3),
        "named_sent_at": Checked(3),
        "named_event_id": Checked(3),
        "erased": Checked(1),
        "applied_at": _CLOCK,
        "counts": Checked(1),
        "net": Refused("a generated column"),
        "most_refunded": _TOLD,
    },
    "partition_counters": {"partition": Checked(2), "slot": _SLOT, "read": Checked(2)},
    "pending_merges": dict.fromkeys(("low", "high", "since", "protected"), Checked(9)),
    "reconstructions": {
        "id": Checked(10),
        "requested_at": Unknowable("an older one is only done earlier"),
        "cause": Refused("ck_reconstructions_cause"),
    },
    "relay": {
        "one": _SINGLE,
        "numbered": Checked(5),
        "published": Checked(6),
        "trimmed": Checked(5),
    },
    "removals": {
        "id": Checked(10),
        # What subscribers were told, as for segment changes.
        **dict.fromkeys(("customer_id", "removed_at", "publish_number"), Checked(6)),
        "reason": Refused("ck_removals_reason"),
        "merged_into": Checked(6),
    },
    "removals_relay": {
        "one": _SINGLE,
        **dict.fromkeys(("numbered", "published", "trimmed"), Checked(6)),
    },
    "shop_orders": {
        "source": _SHOP,
        "shop_id": _SHOP,
        "order_id": Refused("fk_shop_orders_order_id"),
        "deleted_at": _SHOP,
        "told": _TOLD,
    },
    "shop_refunds": dict.fromkeys(
        ("source", "shop_id", "refund_id", "amount", "refunded_at"), _SHOP
    ),
    "shop_requests": {
        "id": Unknowable("only names the request on Operations"),
        **dict.fromkeys(("platform", "domain", "digest", "customer_id"), _SHOP),
        "kind": Refused("ck_shop_requests_kind"),
        "received_at": _CLOCK,
        "done_at": Refused("ck_shop_requests_done"),
        "done_by": Refused("ck_shop_requests_done"),
    },
    "segment_changes": {
        "id": Checked(10),
        "customer_id": Checked(5),
        "sequence": Checked(5),
        "previous": Checked(5),
        "segment": Checked(5),
        # What subscribers were told: the out-stream as far as it goes back, and the digest of
        # everything published that the last verification saw.
        **dict.fromkeys(
            (
                "cause",
                "settings_version",
                "total_orders",
                "total_spent",
                "last_order_date",
                "changed_at",
                "publish_number",
                "traceparent",
            ),
            Checked(6),
        ),
    },
    "segment_counters": {
        "slot": Checked(7),
        "segment": Checked(7),
        **dict.fromkeys(FIGURES, Checked(7)),
    },
    "separations": {
        "low": Checked(9),
        "high": Checked(9),
        "decided_by": _TYPED,
        "decided_at": _CLOCK,
    },
    "sessions": {
        "token_hash": _SECRET,
        "user_id": Refused("fk_sessions_user_id"),
        "date_created": _CLOCK,
        "last_seen_at": _CLOCK,
        "expires_at": Unknowable("a session ends by itself, and with the user's next password"),
    },
    "settings": dict.fromkeys(
        ("version", "changed_at", "changed_by", *SegmentSettings.model_fields), Checked(10)
    ),
    "settings_changes": {
        "version": Checked(4),
        "total": _SHOWN,
        "examined": Refused("ck_settings_changes_progress"),
        "moved": Refused("ck_settings_changes_progress"),
        "last_id": _SHOWN,
        "started_at": _CLOCK,
        "finished_at": _CLOCK,
        "counted_since": _SHOWN,
        "orders_total": _SHOWN,
        "orders_examined": Refused("ck_settings_changes_recount_progress"),
        "orders_changed": Refused("ck_settings_changes_recount_progress"),
        "customers_moved": _SHOWN,
        "last_order": _SHOWN,
        "ids_replaced": _SHOWN,
        "recounted_at": _CLOCK,
    },
    "sightings": dict.fromkeys(
        (
            "stream",
            "consumer_group",
            "seen_at",
            "added",
            "removed",
            "last_id",
            "settled_id",
            "listening",
            "balance",
            "read",
            "away_since",
        ),
        _OBSERVED,
    ),
    "span_customers": dict.fromkeys(("segment", "orders", "bucket", "created", "spent"), _CACHED),
    "span_orders": dict.fromkeys(("day", "unattributed", "earlier", "orders"), _CACHED),
    "stream_searches": dict.fromkeys(
        ("stream", "erasures", "late_events", "after_id", "until_id", "entries"), _SEARCHED
    ),
    "sweep": {"one": _SINGLE, "swept_until": Checked(4)},
    "own_fields": {
        "key": Checked(9),
        "kind": Refused("ck_own_fields_kind"),
        **dict.fromkeys(("label", "choices"), _TYPED),
        "position": _SHOWN,
        "date_created": _CLOCK,
    },
    "tags": {
        "id": Refused("fk_customer_tags_tag_id"),
        "name": Checked(9),
        "folded": Checked(9),
        "date_created": _CLOCK,
    },
    "trims": dict.fromkeys(("stream", "entries", "held_by", "held_at"), _SHOWN),
    "unknown_changes": dict.fromkeys(
        ("number", "customer_id", "body"),
        Unknowable("what somebody else may have forged; a person decides, with `crm recover`"),
    ),
    "users": {
        "id": Checked(10),
        "email": Checked(9),
        "email_key": Checked(9),
        "password_hash": _SECRET,
        "role": Checked(10),
        "date_created": _CLOCK,
        "last_sign_in_at": _CLOCK,
        "disabled_at": Checked(10),
    },
    "view_counts": {
        "view": _SHOWN,
        "day": _SHOWN,
        **dict.fromkeys(("customers", "counted_at", "seconds"), _CACHED),
    },
    "views": {
        "id": _SHOWN,
        **dict.fromkeys(("owner", "name", "shared", "filter", "sort"), _TYPED),
        **dict.fromkeys(("date_created", "date_updated"), _CLOCK),
    },
    "verification": {
        "one": _SINGLE,
        "verified_at": _THIS,
        "broken": _THIS,
        "remembered": Checked(10),
    },
}
"""Each column of each table, in alphabetical order of the tables."""
