"""The segment rules as SQL, generated from `core.segment_rules`.

A new limit, setting or rule is added there. Nothing changes here.
"""

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Dialect, case, literal_column
from sqlalchemy.dialects.postgresql.base import PGDialect

from service.core.lapse import LAPSED
from service.core.segment_rules import (
    AGE_LIMITS,
    CONSTANT_LIMITS,
    ORDER,
    OTHERWISE,
    RULES,
    Facts,
    Limits,
    Precedence,
    Segment,
    SegmentSettings,
)
from service.db.schema import settings

_DIALECT: Dialect = PGDialect()  # type: ignore[no-untyped-call]

SETTINGS = tuple(SegmentSettings.model_fields)
"""The columns of ``settings`` that staff can change."""


def segment_sql(facts: str, limits: str) -> str:
    """Return the rules as a CASE expression over the columns of two relations."""
    fact_columns = Facts(*(literal_column(f"{facts}.{name}") for name in Facts._fields))
    limit_columns = Limits(*(literal_column(f"{limits}.{name}") for name in Limits._fields))

    def first_that_holds(order: Sequence[Segment]) -> str:
        whens: list[tuple[ColumnElement[bool], ColumnElement[str]]] = [
            (RULES[segment].holds(fact_columns, limit_columns), literal_column(f"'{segment}'"))
            for segment in order
        ]
        expression = case(*whens, else_=literal_column(f"'{OTHERWISE}'"))
        sql = str(expression.compile(dialect=_DIALECT))
        return re.sub(r" (WHEN|ELSE|END)\b", r"\n\1", sql)

    branches = "\n".join(
        f"WHEN '{precedence}' THEN\n{first_that_holds(ORDER[precedence])}"
        for precedence in Precedence
    )
    return f"CASE {limits}.precedence\n{branches}\nEND"


def limit_columns(now: str) -> str:
    """Return the SELECT list that turns a row of settings into `Limits` at a moment."""

    def column(limit: str) -> str:
        if limit in CONSTANT_LIMITS:
            return f"{CONSTANT_LIMITS[limit]} AS {limit}"
        if limit in AGE_LIMITS:
            # Hours, because a day of a time zone may have 23 or 25 of them.
            return f"{now} - {AGE_LIMITS[limit]} * interval '24 hours' AS {limit}"
        return limit

    return ", ".join(map(column, Limits._fields))


LIMITS = f"""
limits AS (
  SELECT version, auto_segmentation, precedence,
    {limit_columns("CAST(:now AS timestamptz)")}
  FROM settings ORDER BY version DESC LIMIT 1
)"""
"""The newest settings as limits, in one row. Read it after the lock: then it is never outdated."""

PROMISED = f"""
promised AS (
  SELECT version, auto_segmentation, precedence, {
    ", ".join(
        f"{limit} - CAST(:promise AS interval) AS {limit}" if limit in AGE_LIMITS else limit
        for limit in Limits._fields
    )
}
  FROM limits
)"""
"""The limits as they were one promise of the sweep ago; needs `LIMITS`.

The sweep has that long to move a customer whom time has made due. Until then, the segment by the
limits of now and the segment by these earlier limits are both right.
"""


def hold_ended_sql(customer: str, now: str, newest_order: str) -> str:
    """Return the condition that a hold set by hand has ended.

    A pin lasts for ever. Any other hold lasts until its moment, or, if it has none, until an order
    that was placed after the hold was set. ``newest_order`` is the date of the latest order that is
    considered; if it is NULL, no order ends the hold.
    """
    return (
        f"(NOT {customer}.segment_pinned AND coalesce({customer}.segment_pinned_until <= {now},"
        f" {newest_order} > {customer}.segment_held_since, false))"
    )


def due_sql(customer: str, limits: str, now: str, newest_order: str) -> str:
    """Return the condition that a customer's segment or hold is not what it should be now."""
    return (
        f"CASE WHEN {customer}.segment_manual\n"
        f"THEN {hold_ended_sql(customer, now, newest_order)}\n"
        f"ELSE {limits}.auto_segmentation AND {segment_sql(customer, limits)}"
        f" <> {customer}.segment\nEND"
    )


def misplaced_sql(customer: str, newest_order: str) -> str:
    """Return the condition that a customer should have been moved, and the time for it is over.

    Needs `LIMITS` as ``l`` and `PROMISED` as ``p``. The sweep has a promised time to move customers
    whom time makes due, and the job of new settings has all the time that it takes.
    """
    before = "CAST(:now AS timestamptz) - CAST(:promise AS interval)"
    return f"""CASE WHEN {customer}.segment_manual
    THEN {hold_ended_sql(customer, before, newest_order)}
    ELSE l.auto_segmentation
      AND {segment_sql(customer, "l")} <> {customer}.segment
      AND {segment_sql(customer, "p")} <> {customer}.segment
      AND NOT EXISTS (  -- the job of new settings has not reached them yet
        SELECT FROM settings_changes s WHERE s.finished_at IS NULL AND {customer}.id > s.last_id)
    END"""


def lapsing_sql(customer: str, later: str, then: str) -> str:
    """Return the condition that silence moves a customer down by ``then``: see `core.lapse`.

    ``later`` is the settings in force with their limits at that moment.
    """
    segment = segment_sql(customer, later)
    # The rules are tried last: most customers have ordered since, or are inactive already.
    return f"""{customer}.segment <> '{Segment.INACTIVE}'
    AND {customer}.last_order_date <= {later}.at_risk_before
    AND {later}.auto_segmentation
    AND (NOT {customer}.segment_manual
      OR NOT {customer}.segment_pinned AND {customer}.segment_pinned_until <= {then})
    AND {segment} IN ({", ".join(f"'{lapsed}'" for lapsed in LAPSED)})
    AND {segment} <> {customer}.segment"""


def later_sql(then: str) -> str:
    """Return the CTE ``later`` that `lapsing_sql` needs: the settings with the limits at a moment.

    It is computed once, also in a subquery that runs for each customer.
    """
    return f"""
later AS MATERIALIZED (
  SELECT auto_segmentation, precedence, {limit_columns(then)}
  FROM settings ORDER BY version DESC LIMIT 1
)"""


PROPOSED_SETTINGS = f"""
settings AS (
  SELECT 0 AS version, {
    ", ".join(
        f"CAST(:{name} AS {settings.c[name].type.compile(dialect=_DIALECT)}) AS {name}"
        for name in SETTINGS
    )
}
)"""
"""Settings given as parameters. In a statement, this relation hides the table `settings`. So the
SQL that applies the stored settings also shows what these would do."""
