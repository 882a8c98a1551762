"""Keep the unknown changes of the out-stream until a person decides, with `crm recover`.

Until then no change of their customers is published. Subscribers would drop it, because its
sequence is taken.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.published_change import PublishedChange
from service.db.outbox import Unknown

_MOST_KEPT = 1_000_000
"""Unknown changes that are kept, four times what the stream keeps by default. More are foreign:
whoever can write the stream must not fill the database."""

_COUNT = text("SELECT count(*) FROM unknown_changes")
_SEQUENCES = text("""
SELECT customer_id, max(sequence) AS sequence FROM segment_changes
WHERE customer_id = ANY(:ids) AND publish_number <= :position GROUP BY customer_id
""")
_KEEP = text("""
INSERT INTO unknown_changes (number, customer_id, body)
SELECT * FROM unnest(CAST(:numbers AS bigint[]), CAST(:customers AS bigint[]),
  CAST(:bodies AS bytea[]))
ON CONFLICT (number) DO NOTHING
""")


async def refusals(
    connection: AsyncConnection, unknown: Sequence[Unknown[PublishedChange]], position: int
) -> list[str | None]:
    """Return for each change why it cannot be ours, or None.

    ``position`` is the publish number up to which the stream is known.
    """
    room = _MOST_KEPT - (await connection.execute(_COUNT)).scalar_one()
    ids = sorted({each.event.customer_id for each in unknown})
    rows = await connection.execute(_SEQUENCES, {"ids": ids, "position": position})
    sequences = {row.customer_id: row.sequence for row in rows}
    reasons = list[str | None]()
    for each in unknown:
        if each.event.sequence <= sequences.get(each.event.customer_id, 0):
            reasons.append("this customer's changes up to that sequence were published before")
        elif room <= 0:
            reasons.append(f"more than {_MOST_KEPT:,} unknown changes are on the stream")
        else:
            reasons.append(None)
            room -= 1
    return reasons


async def keep(connection: AsyncConnection, unknown: Sequence[Unknown[PublishedChange]]) -> None:
    """Keep changes."""
    await connection.execute(
        _KEEP,
        {
            "numbers": [each.number for each in unknown],
            "customers": [each.event.customer_id for each in unknown],
            "bodies": [each.body for each in unknown],
        },
    )
