"""Mark a work list as contacted, and see later who of them ordered."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.work_lists import LEFT_OUT_SHARE, RESULT_DAYS, Arm, Result, WorkList
from service.db.accounts.audit import note
from service.db.outlook.work_lists import chosen_sql

_MARK = {
    name: text(f"""
WITH chosen AS MATERIALIZED ({chosen_sql(name)}),
parted AS (
  SELECT id, place > floor(CAST(:share AS float8) * customers) AS contacted FROM chosen
),
round AS (
  INSERT INTO contact_rounds (list, marked_at, marked_by, contacted, left_out)
  SELECT :list, :now, :actor, count(*) FILTER (WHERE contacted),
    count(*) FILTER (WHERE NOT contacted)
  FROM parted HAVING count(*) > 0 RETURNING *
),
noted AS (
  INSERT INTO contacts (round_id, customer_id, contacted)
  SELECT round.id, parted.id, parted.contacted FROM round CROSS JOIN parted
)
SELECT * FROM round
""")
    for name in WorkList
}
_ROUNDS = text("SELECT * FROM contact_rounds ORDER BY id DESC LIMIT :most")
_OF_CUSTOMER = text("""
SELECT r.list, r.marked_at, r.marked_by, t.contacted
FROM contacts t JOIN contact_rounds r ON r.id = t.round_id
WHERE t.customer_id = :id ORDER BY r.id DESC
""")
_ONE = text("SELECT * FROM contact_rounds WHERE id = :id")
_PEOPLE = """
SELECT c.id, {name} AS name, {email} AS email, {phone} AS phone, c.email_opt_in,
  c.sms_opt_in, c.total_orders, c.total_spent
FROM contacts t JOIN customers c ON c.id = t.customer_id
WHERE t.round_id = :id AND t.contacted ORDER BY c.id
"""


def _settle(days: int) -> str:
    ordered = f"""EXISTS (
      SELECT FROM orders o WHERE o.customer_id = t.customer_id AND o.counts
        AND o.date_created > r.marked_at
        AND o.date_created <= r.marked_at + interval '{days} days')"""
    return f"""
UPDATE contact_rounds r SET contacted_{days} = found.contacted, left_out_{days} = found.left_out
FROM (
  SELECT r.id, count(*) FILTER (WHERE t.contacted AND {ordered}) AS contacted,
    count(*) FILTER (WHERE NOT t.contacted AND {ordered}) AS left_out
  FROM contact_rounds r LEFT JOIN contacts t ON t.round_id = r.id
  WHERE r.id = (
    SELECT id FROM contact_rounds
    WHERE contacted_{days} IS NULL
      AND marked_at < coalesce(CAST(:now AS timestamptz), clock_timestamp())
        - interval '{days} days'
    ORDER BY id LIMIT 1)
  GROUP BY r.id
) found
WHERE r.id = found.id"""


_SETTLE = [text(_settle(days)) for days in RESULT_DAYS]


class Round(NamedTuple):
    """When a list was marked as contacted, and what came of it."""

    id: int
    work_list: WorkList
    marked_at: datetime
    marked_by: str
    contacted: int
    left_out: int
    results: list[Result]
    """Those that are over."""


class Contact(NamedTuple):
    """That a customer was contacted, or left out by chance."""

    work_list: WorkList
    marked_at: datetime
    marked_by: str
    contacted: bool


async def mark(
    connection: AsyncConnection,
    actor: str,
    name: WorkList,
    now: datetime,
    top: float,
    *,
    leave_out: bool,
) -> Round | None:
    """Mark all customers of a list as contacted; with ``leave_out``, all but a random fifth.

    Return None if nobody is on the list. They are on no list for a while. The caller commits.
    """
    row = (
        await connection.execute(
            _MARK[name],
            {
                "list": name.value,
                "now": now,
                "top": top,
                "actor": actor,
                "share": LEFT_OUT_SHARE if leave_out else 0.0,
            },
        )
    ).one_or_none()
    if row is None:
        return None
    marked = _round(row)
    await note(
        connection,
        actor,
        "list.contacted",
        details={"list": name, "contacted": marked.contacted, "leftOut": marked.left_out},
    )
    return marked


async def rounds(connection: AsyncConnection, most: int) -> Sequence[Round]:
    """Return the last rounds, the newest first."""
    return [_round(row) for row in await connection.execute(_ROUNDS, {"most": most})]


async def find(connection: AsyncConnection, round_id: int) -> Round | None:
    """Return a round. None: there is none of this number."""
    row = (await connection.execute(_ONE, {"id": round_id})).one_or_none()
    return _round(row) if row else None


async def people(
    connection: AsyncConnection, round_id: int, escaped: Callable[[str], str]
) -> Sequence[Row[Any]]:
    """Return the customers to contact in a round, without those who are left out.

    ``escaped`` returns the SQL of a column as the file needs it.
    """
    columns = {name: escaped(f"c.{name}") for name in ("name", "email", "phone")}
    return (await connection.execute(text(_PEOPLE.format(**columns)), {"id": round_id})).all()


async def of_customer(connection: AsyncConnection, customer_id: int) -> Sequence[Contact]:
    """Return when a customer was contacted, or left out, the latest first."""
    rows = await connection.execute(_OF_CUSTOMER, {"id": customer_id})
    return [Contact(WorkList(row[0]), *row[1:]) for row in rows]


async def settle(connection: AsyncConnection, now: datetime | None = None) -> int | None:
    """Count who ordered after a round that is over; None if none is. The caller commits."""
    settled = 0
    for statement in _SETTLE:
        settled += (await connection.execute(statement, {"now": now})).rowcount
    return settled or None


def _round(row: Row[Any]) -> Round:
    results = list[Result]()
    for days in RESULT_DAYS:
        ordered, others = (getattr(row, f"{arm}_{days}") for arm in ("contacted", "left_out"))
        if ordered is not None:
            results.append(Result(days, Arm(row.contacted, ordered), Arm(row.left_out, others)))
    return Round(
        row.id,
        WorkList(row.list),
        row.marked_at,
        row.marked_by,
        row.contacted,
        row.left_out,
        results,
    )
