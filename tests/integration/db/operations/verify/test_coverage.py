"""Each column of each table is damaged in turn, and found as the coverage list says."""

from datetime import datetime
from typing import NamedTuple

import pytest
from sqlalchemy.exc import DBAPIError

from service.core.order_event import REGISTERS
from service.db import registers
from service.db.operations.verify.coverage import COVERAGE, Refused, Unknowable
from tests.conftest import Service
from tests.integration.db.operations.verify.populated import populate

_WHAT_TO_DO = (
    "{} is not covered. Add it to COVERAGE in service/db/operations/verify/coverage.py: by the"
    " invariant that finds a wrong value, the constraint that refuses it, or the reason why nobody"
    " can know. If this test then cannot damage it in a way that is found, add a check beside the"
    " others in service/db/operations/verify/."
)

DAMAGE = {
    "text": "'x' || {}",
    "character varying": "'x' || {}",
    "integer": "{} + 1000003",
    "smallint": "{} + 1003",
    "bigint": "{} + 1000003",
    "numeric": "{} + 1000003",
    "double precision": "{} + 1000003",
    "real": "{} / 2",
    "boolean": "NOT {}",
    "timestamp with time zone": "{} - interval '3 days'",
    "date": "{} - 3",
    "bytea": "set_byte({0}, 0, get_byte({0}, 0) # 1)",
    "jsonb": "jsonb_set({}, '{{damaged}}', 'true')",
}
"""A realistic damage for each type: a value that the type takes."""
ELEMENTS = {
    "bigint[]": "array_append({0}[2:], {0}[1] + 7)",
    "smallint[]": "array_append({}, 99)",
    "text[]": "array_append({}, 'write')",
    "bytea[]": "array_append({0}[2:], set_byte({0}[1], 0, get_byte({0}[1], 0) # 1))",
}


class Special(NamedTuple):
    """Where the damage of the type is no damage, or no row has such a value."""

    damage: str = ""
    where: str = "true"


_OLDER = {
    "'!' || {}": [
        ("orders", "event_id"),
        ("orders", "named_event_id"),
        *(("customers", registers.columns_of(register)[2]) for register in REGISTERS),
    ],
    "{} - 1": [("orders", "version"), ("orders", "named_version")],
    "{} - interval '3 days'": [("orders", "updated_at"), ("orders", "named_at")],
}
SPECIAL = {
    # Only an order of somebody adds to a customer's figures.
    **{
        ("orders", column): Special(where="customer_id IS NOT NULL AND counts")
        for column in COVERAGE["orders"]
    },
    ("customers", "segment"): Special("'at_risk'", "segment <> 'at_risk'"),
    ("customers", "segment_manual"): Special(where="NOT segment_manual"),
    ("customers", "segment_pinned"): Special(where="NOT segment_manual"),
    ("customers", "segment_pinned_until"): Special("now()", "NOT segment_manual"),
    ("customers", "date_created"): Special("date_created + interval '2 days'"),
    ("segment_changes", "previous"): Special("'at_risk'", "previous <> 'at_risk'"),
    ("segment_changes", "segment"): Special("'at_risk'", "segment <> 'at_risk'"),
    ("segment_changes", "cause"): Special("'manual'", "cause <> 'manual'"),
    ("segment_changes", "settings_version"): Special("2", "settings_version = 1"),
    ("segment_changes", "customer_id"): Special("customer_id + 1000003"),
    ("daily_changes", "segment"): Special("'x' || segment", "segment = 'new'"),
    # A zone in which each order of now, some days ago, is of another day than in UTC.
    ("daily_generations", "time_zone"): Special(
        "CASE WHEN extract(hour FROM now() AT TIME ZONE 'UTC') < 12"
        " THEN 'Etc/GMT+12' ELSE 'Etc/GMT-14' END"
    ),
    ("segment_counters", "segment"): Special("'x' || segment"),
    ("dead_letters", "partition"): Special("7"),
    # A key that is too great looks like that of a later event.
    **{
        (table, column): Special(
            damage.format(column), "customer_id IS NOT NULL" if table == "orders" else "true"
        )
        for damage, columns in _OLDER.items()
        for table, column in columns
    },
    # A person typed the first customer's e-mail, and no event is later than that.
    ("customers", "email_at"): Special(where="email_at < 'infinity'"),
    ("customers", "email_event"): Special("'!' || email_event", "email_at < 'infinity'"),
    # A pair that a person has to decide about may be as old as it likes.
    ("pending_merges", "since"): Special(where="NOT protected"),
    ("pending_merges", "protected"): Special(where="protected"),
    ("orders", "erased"): Special(where="erased"),
    ("orders", "customer_id"): Special("1001", "customer_id <> 1001"),
    ("settings", "auto_segmentation"): Special(where="version = 1"),
    ("settings", "precedence"): Special("'value_first'"),
    ("users", "role"): Special("'admin'", "role <> 'admin'"),
    ("users", "disabled_at"): Special("NULL", "disabled_at IS NOT NULL"),
    ("api_keys", "revoked_at"): Special("NULL"),
    ("hooks", "last_failure"): Special("NULL"),
    ("hooks", "last_failure_at"): Special("NULL"),
    ("shop_requests", "done_at"): Special("NULL"),
    ("shop_requests", "done_by"): Special("NULL"),
    ("losses", "acknowledged_at"): Special("NULL"),
    # The endpoint is neither paused nor failing.
    ("endpoints", "paused_at"): Special("now()"),
    ("endpoints", "paused_because"): Special("'x'"),
    ("endpoints", "failing_since"): Special("now()"),
    ("endpoints", "next_attempt_at"): Special("now()"),
    ("losses", "acknowledged_by"): Special("NULL"),
    # An old watermark does no harm: the next sweep looks back further.
    ("sweep", "swept_until"): Special("swept_until + interval '3 days'"),
    ("kept_answers", "as_of"): Special("as_of + interval '90 days'"),
    ("audit", "customer_id"): Special(where="customer_id IS NOT NULL"),
    ("audit", "details"): Special(where="customer_id IS NULL"),
    ("verification", "remembered"): Special("""jsonb_set(remembered, '{audit,digest}', '"1"')"""),
}


@pytest.fixture
async def columns(empty_service: Service, now: datetime) -> list[tuple[str, str, str]]:
    """Fill the service; return table, column and type of every column there is."""
    await populate(empty_service, now)
    rows = await empty_service.rows("""
        SELECT c.table_name, c.column_name, format_type(a.atttypid, NULL) AS type
        FROM information_schema.columns c
        JOIN pg_attribute a
          ON a.attrelid = CAST(c.table_name AS regclass) AND a.attname = c.column_name
        WHERE c.table_schema = current_schema() AND a.attnum > 0
          AND (SELECT relkind FROM pg_class k WHERE k.oid = a.attrelid) = 'r'
        ORDER BY c.table_name, c.column_name""")
    return [(row["table_name"], row["column_name"], row["type"]) for row in rows]


@pytest.mark.timeout(900)  # a verification for each column: a minute on two cores, if they are free
async def test_every_column_is_covered_as_the_list_says(
    empty_service: Service, columns: list[tuple[str, str, str]]
) -> None:
    present = {(table, column) for table, column, _ in columns}
    listed = {(table, column) for table, names in COVERAGE.items() for column in names}
    missing = sorted(".".join(pair) for pair in present - listed)
    assert not missing, _WHAT_TO_DO.format(", ".join(missing))
    assert not listed - present, "the coverage list has columns that do not exist"
    wrong = []
    for table, column, kind in columns:
        covered = COVERAGE[table][column]
        if isinstance(covered, Unknowable):
            assert len(covered.reason) > 10
            continue
        outcome = await _outcome_of_damage(empty_service, table, column, kind)
        if isinstance(covered, Refused):
            as_listed = isinstance(outcome, str)
        else:
            as_listed = isinstance(outcome, str) or covered.invariant in outcome
        if not as_listed:
            wrong.append(f"{table}.{column}: listed as {covered}, but damage leads to {outcome}")
    assert not wrong, "\n".join([*wrong, _WHAT_TO_DO.format("What is named above")])


async def _outcome_of_damage(
    service: Service, table: str, column: str, kind: str
) -> str | set[int]:
    """Damage one value; return the error of the database, or the invariants that are broken.

    Afterwards the value is as before.
    """
    special = SPECIAL.get((table, column), Special())
    damage = special.damage or (DAMAGE | ELEMENTS)[kind].format(column)
    found = await service.rows(
        f"SELECT CAST(ctid AS text) AS place, CAST({column} AS text) AS before FROM {table}"
        f" WHERE {special.where} ORDER BY {column} IS NULL, ctid LIMIT 1"
    )
    assert found, f"no row of {table} can be damaged: tests/…/verify/populated.py should write one"
    (row,) = found
    assert row["before"] is not None or special.damage, f"{table}.{column} has no value anywhere"
    try:
        async with service.engine.begin() as connection:
            damaged = await connection.exec_driver_sql(
                f"UPDATE {table} SET {column} = {damage} WHERE ctid = '{row['place']}'"
                " RETURNING CAST(ctid AS text)"
            )
            place = damaged.scalar_one()
    except DBAPIError as error:
        return type(error.orig).__name__
    broken = {finding.number for finding in await service.findings()}
    async with service.engine.begin() as connection:
        await connection.exec_driver_sql(
            f"UPDATE {table} SET {column} = CAST(CAST($1 AS text) AS {kind})"
            f" WHERE ctid = '{place}'",
            (row["before"],),
        )
    return broken
