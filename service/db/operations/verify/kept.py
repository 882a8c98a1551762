"""What was stored once stays as it was, and the database still refuses what it should (10).

Nothing else holds the bytes of a dead letter, so its digest does. Nothing holds old versions of the
settings, the audit, figures of past days and published history. So `crm verify` remembers what they
were, and the next one compares.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import CheckConstraint, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.order_event import Reason
from service.db import installation
from service.db.customers.personal_data import find_in, hashes
from service.db.figures import each_figure
from service.db.operations.verify.findings import MOST_SHOWN, RESTORE, Check, Fault, fault_if, rows
from service.db.schema import metadata
from service.db.segments.rules_sql import SETTINGS
from service.db.statistics.generations import IN_USE, READ

SETTLED = "interval '1 hour'"
"""No transaction lasts longer. So what is older will not be joined by a row that is older still."""

# An erasure empties the fields of a letter that names the person.
_LETTER_BYTES = text("""
SELECT id AS letter, stream_id AS "streamId" FROM dead_letters l
CROSS JOIN LATERAL (
  SELECT sum(octet_length(part)) AS bytes,
         string_agg(int8send(octet_length(part)) || part, '' ORDER BY place, side) AS content
  FROM unnest(field_names, field_values) WITH ORDINALITY AS f(name, value, place)
  CROSS JOIN LATERAL (VALUES (1, name), (2, value)) AS p(side, part)
) c
WHERE field_names <> '{}' AND (
  stored <> bytes
  OR digest IS DISTINCT FROM whole_digest AND digest <> sha256(
    coalesce(convert_to(partition || ':', 'UTF8'), '') || content
    || CASE WHEN stored < size THEN convert_to(':' || size, 'UTF8') ELSE '' END))
LIMIT :most
""")
_LETTER_FORM = text(f"""
SELECT id AS letter, stream_id AS "streamId", reason FROM dead_letters
WHERE stream_id !~ '^[0-9]+-[0-9]+$'
   OR reason NOT IN ({", ".join(f"'{reason.value}'" for reason in Reason)})
LIMIT :most
""")
IDENTITIES = text(
    " UNION ALL ".join(
        f"""
SELECT '{table.name}' AS table, highest, pg_sequence_last_value(name) AS "sequenceAt"
FROM (SELECT max({column.name}) AS highest,
             CAST(pg_get_serial_sequence('{table.name}', '{column.name}') AS regclass) AS name
      FROM {table.name}) t
WHERE has_sequence_privilege(name, 'SELECT')
  AND highest > coalesce(pg_sequence_last_value(name), 0)"""
        for table in metadata.sorted_tables
        for column in table.columns
        if column.identity
    )
)
_UNCHECKED = text("""
SELECT conname AS constraint FROM pg_constraint
WHERE NOT convalidated AND connamespace = CAST(current_schema() AS regnamespace)
""")
_CONSTRAINTS = text("""
SELECT conname FROM pg_constraint WHERE connamespace = CAST(current_schema() AS regnamespace)
""")

_LETTER_SAMPLE = 200
"""Dead letters of which is found anew whom they name."""
_INDEXED_LETTERS = text("""
SELECT id, identifiers, hints FROM dead_letters
WHERE identifiers IS NOT NULL AND field_names <> '{}' ORDER BY random() LIMIT :sample
""")

KEPT = (
    Check("a dead letter does not have the bytes that were refused", RESTORE, _LETTER_BYTES),
    Check("a dead letter has an id or a reason that no worker writes", RESTORE, _LETTER_FORM),
    Check(
        "a row has a number that its sequence will give to another one",
        "`crm rebuild --apply` moves the sequence beyond it.",
        IDENTITIES,
    ),
    Check(
        "a constraint was never checked against the rows that were there before it",
        "Mend the rows that it forbids; then ALTER TABLE … VALIDATE CONSTRAINT.",
        _UNCHECKED,
    ),
)


async def letter_index_faults(connection: AsyncConnection) -> list[Fault]:
    """Return dead letters, of a sample, that an erasure would not find by whom they name."""
    salt = await installation.secret(connection)
    letters = await connection.execute(_INDEXED_LETTERS, {"sample": _LETTER_SAMPLE})
    wrong = []
    for row in letters.all():
        found = hashes(salt, await find_in(connection, row.id))
        if (found.identifiers, found.hints) != (row.identifiers, row.hints):
            wrong.append({"letter": row.id})
    return fault_if(
        wrong[:MOST_SHOWN],
        "a dead letter is not indexed by whom it names, so an erasure would miss it",
        "UPDATE dead_letters SET identifiers = NULL, hints = NULL for these ids: a worker indexes"
        " them again within seconds.",
    )


async def constraint_faults(connection: AsyncConnection) -> list[Fault]:
    """Return the constraints of the tables that somebody has dropped."""
    present = set((await connection.execute(_CONSTRAINTS)).scalars())
    declared = {
        str(constraint.name): table.name
        for table in metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    missing = [
        {"table": table, "constraint": name}
        for name, table in declared.items()
        if name not in present
    ]
    return fault_if(
        missing,
        "a constraint of this release is missing",
        "Run `crm migrate`. If the schema is current, somebody dropped it: add it again.",
    )


class Settled(NamedTuple):
    """Rows that never change again once they are settled."""

    what: str
    place: str
    """The column that says where the settled rows end."""
    columns: str
    source: str
    """A FROM clause."""
    until: str
    """A scalar: the last place that is settled at ``:now``; NULL if nothing is."""
    kind: str
    """The type of a place in SQL."""
    since: str = "CAST(NULL AS text)"
    """A scalar that changes when all rows may have been written anew. Then nothing is compared."""


SETTLED_ROWS = {
    "daily_changes": Settled(
        "figures of past days",
        "day",
        f"day, segment, {each_figure('sum({figure})')}",
        f"daily_changes WHERE {READ} GROUP BY day, segment",
        f"""(SELECT CAST((CAST(:now AS timestamptz) - {SETTLED}) AT TIME ZONE time_zone AS date) - 1
             FROM daily_generations WHERE generation = {IN_USE})""",
        "date",
        f"""(SELECT concat_ws(' ', generation, reconstructed_until, counted_at)
             FROM daily_generations WHERE generation = {IN_USE})""",
    ),
    "segment_changes": Settled(
        "published segment changes",
        "publish_number",
        "id, customer_id, sequence, previous, segment, cause, settings_version, total_orders,"
        " total_spent, last_order_date, changed_at, traceparent, publish_number",
        "segment_changes WHERE publish_number IS NOT NULL",
        "(SELECT published FROM relay)",
        "bigint",
    ),
    "removals": Settled(
        "published removals",
        "publish_number",
        "id, customer_id, reason, merged_into, removed_at, publish_number",
        "removals WHERE publish_number IS NOT NULL",
        "(SELECT published FROM removals_relay)",
        "bigint",
    ),
    "settings": Settled(
        "versions of the settings",
        "version",
        f"version, changed_at, changed_by, {', '.join(SETTINGS)}",
        "settings",
        "(SELECT max(version) FROM settings)",
        "integer",
    ),
    # An erasure empties the details of what was done to the person, and to their identifiers.
    "audit": Settled(
        "the audit",
        "id",
        "id, at, actor, action, customer_id,"
        " CASE WHEN customer_id IS NULL AND action NOT LIKE 'identifier.%'"
        " OR action = 'customer.erased' THEN details END",
        "audit",
        f"(SELECT max(id) FROM audit WHERE at <= CAST(:now AS timestamptz) - {SETTLED})",
        "bigint",
    ),
}

_REMEMBERED = text("SELECT remembered FROM verification")


def _digest(settled: Settled) -> TextClause:
    """Return a query for the number of rows, and the sum of their hashes, up to two places."""

    def up_to(place: str, name: str) -> str:
        only = f"FILTER (WHERE place <= CAST(CAST({place} AS text) AS {settled.kind}))"
        return (
            f"count(*) {only} AS {name}_rows,"
            f" CAST(coalesce(sum(hash) {only}, 0) AS text) AS {name}_digest"
        )

    return text(f"""
SELECT {up_to(":before", "before")}, {up_to(":until", "now")}
FROM (SELECT {settled.place} AS place,
             hashtextextended(CAST(ROW({settled.columns}) AS text), 0) AS hash
      FROM {settled.source}) lines""")


async def remembered_faults(
    connection: AsyncConnection, now: datetime, *, accept: bool
) -> tuple[list[Fault], dict[str, Any]]:
    """Compare settled rows with what the last verification saw of them.

    Return the faults, and what the next verification has to compare with. Rows that have changed
    are remembered as they were, so they are reported until somebody restores them, or has them
    accepted: with ``accept`` nothing is compared.
    """
    stored = (await connection.execute(_REMEMBERED)).scalar()
    memory: Mapping[str, Any] = {} if accept else stored or {}
    following, changed = dict[str, Any](), list[dict[str, Any]]()
    for name, settled in SETTLED_ROWS.items():
        end = text(f"SELECT CAST({settled.until} AS text) AS until, {settled.since} AS since")
        (ends,) = await rows(connection, end, {"now": now})
        until, since = ends["until"], ends["since"]
        before = memory.get(name)
        if before and before.get("since") != since:
            before = None
        places = {"before": before and before["until"], "until": until}
        seen = (await connection.execute(_digest(settled), places)).one()
        if before and (seen.before_rows, seen.before_digest) != (before["rows"], before["digest"]):
            changed.append(
                {
                    "changed": settled.what,
                    "until": before["until"],
                    "rows": seen.before_rows,
                    "rowsBefore": before["rows"],
                }
            )
            following[name] = before
        elif until is not None:
            following[name] = {
                "until": until,
                "rows": seen.now_rows,
                "digest": seen.now_digest,
                "since": since,
            }
    return fault_if(
        changed,
        "rows that never change are not what the last verification saw",
        f"{RESTORE} If the change was meant, `crm verify --accept` takes it as right.",
    ), following
