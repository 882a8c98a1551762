"""The segment rules as SQL, generated from `core.segment_rules`.

A new limit, setting or rule is added there. Nothing changes here.
"""

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Dialect, case, literal_column
from sqlalchemy.dialects.postgresql.base import PGDialect

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
