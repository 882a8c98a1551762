"""Write the tags of a customers file. They are added to those that a customer has.

Tags that are not in the file stay, because a person may have given them since it was written. If
empty cells are to clear values, an empty cell takes all tags away.
"""

from collections.abc import Sequence
from itertools import chain

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import email_identifier
from service.core.tags import tag_key
from service.db.columns import pack, unpack
from service.db.customers.tags.tagging import find_or_create
from service.db.locks import AdvisoryLock, share_lock
from service.transfer.customer_lines import CustomerLine

OTHER_TAGS = """(EXISTS (
  SELECT FROM jsonb_array_elements_text(l.tags) theirs (tag_key) WHERE NOT EXISTS (
    SELECT FROM customer_tags ct JOIN tags t ON t.id = ct.tag_id
    WHERE ct.customer_id = c.id AND t.folded = theirs.tag_key))
 OR coalesce(l.cleared LIKE '%,tags,%', false)
   AND EXISTS (SELECT FROM customer_tags ct WHERE ct.customer_id = c.id))"""
"""The SQL condition that a line ``l`` would change the tags of ``customers c``."""

_LINES = unpack(
    {"id": "bigint", "email": "text", "external": "text", "phone": "text", "tag_id": "bigint"}
)
# A new customer's number is not known here, but what means them is.
_ADD = text(f"""
WITH given AS (
  INSERT INTO customer_tags (customer_id, tag_id)
  SELECT DISTINCT coalesce(l.id, e.customer_id, x.customer_id, p.customer_id), l.tag_id
  FROM ({_LINES}) l
  LEFT JOIN identifiers e ON e.identifier = l.email
  LEFT JOIN identifiers x ON x.identifier = l.external
  LEFT JOIN identifiers p ON p.identifier = l.phone
  WHERE coalesce(l.id, e.customer_id, x.customer_id, p.customer_id) IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING customer_id, tag_id
)
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.tagged', g.customer_id,
  jsonb_build_object('imported', true, 'added', jsonb_agg(t.name ORDER BY t.folded))
FROM given g JOIN tags t ON t.id = g.tag_id GROUP BY g.customer_id ORDER BY g.customer_id
""")
_CLEAR = text("""
WITH taken AS (
  DELETE FROM customer_tags WHERE customer_id = ANY(:ids) RETURNING customer_id, tag_id
)
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.tagged', g.customer_id,
  jsonb_build_object('imported', true, 'removed', jsonb_agg(t.name ORDER BY t.folded))
FROM taken g JOIN tags t ON t.id = g.tag_id GROUP BY g.customer_id ORDER BY g.customer_id
""")


async def hold_tags(connection: AsyncConnection, lines: Sequence[CustomerLine]) -> None:
    """Take the lock that `write_tags` needs, if it will write anything. Call it before counting.

    Merges take this lock, and count after that.
    """
    if any(line.tags or "tags" in line.cleared for line in lines):
        await share_lock(connection, AdvisoryLock.TAGS)


async def write_tags(
    connection: AsyncConnection, lines: Sequence[CustomerLine], actor: str
) -> None:
    """Give the customers of lines their tags, and clear those of lines that say so.

    The customers exist, and are locked; `hold_tags` was called. The caller commits.
    """
    cleared = [line.id for line in lines if "tags" in line.cleared and line.id]
    if cleared:
        await connection.execute(_CLEAR, {"ids": cleared, "actor": actor})
    tagged = [line for line in lines if line.tags]
    if not tagged:
        return
    names = sorted({*chain.from_iterable(line.tags for line in tagged)}, key=tag_key)
    ids = await find_or_create(connection, names)
    rows = [
        (
            line.id,
            line.email_key and email_identifier(line.email_key),
            line.external,
            line.phone_identifier,
            ids[tag_key(name)],
        )
        for line in tagged
        for name in line.tags
    ]
    columns = zip(*rows, strict=True)
    packed = dict(zip(("id", "email", "external", "phone", "tag_id"), columns, strict=True))
    await connection.execute(_ADD, {**pack(packed), "actor": actor})
