"""Each table is listed as one that web processes write, or as one that they only read."""

from service.db.grants import VERIFY_WRITES, WEB_READS, WEB_WRITES
from service.db.schema import metadata


def test_every_table_is_listed_once() -> None:
    new = sorted(metadata.tables.keys() - WEB_WRITES.keys() - WEB_READS)
    assert not new, (
        f"New tables: {', '.join(new)}. Say in service/db/grants.py whether web processes write "
        "them (WEB_WRITES, and how) or only read them (WEB_READS)."
    )
    gone = sorted((WEB_WRITES.keys() | WEB_READS | VERIFY_WRITES.keys()) - metadata.tables.keys())
    assert not gone, f"Not in the schema any more: {', '.join(gone)}. Remove them from grants.py."
    both = sorted(WEB_WRITES.keys() & WEB_READS)
    assert not both, f"Listed as written and as only read: {', '.join(both)}."
