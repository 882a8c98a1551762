"""``crm publish`` sends the orders of a file as a shop does."""

from pathlib import Path
from typing import Any

from service.core.envelope import Entry
from tests.conftest import Service
from tests.integration.cli.conftest import Crm

EXPORT = """\
Name,Email,Financial Status,Total,Created at,Lineitem name,Billing Country,Phone,Currency
#1,a@x.org,paid,20.00,2022-01-11 04:32:30 -0500,Cap,US,,USD
#1,a@x.org,,,2022-01-11 04:32:30 -0500,Hat,,,
#2,,paid,5.00,2022-07-11 04:32:30 -0400,Cap,US,(512) 555-5678,USD
#3,,paid,five,2022-07-11 04:32:30 -0400,Cap,US,,USD
"""


async def test_the_orders_of_a_file_arrive_as_events(
    empty_service: Service, crm: Crm, tmp_path: Path
) -> None:
    path = tmp_path / "orders_export.csv"
    path.write_text(EXPORT)
    done = await crm("publish", str(path), redis_url=empty_service.servers.redis_url)
    assert done.status == 1
    assert "line 5, Total: must be a decimal string" in done.out
    assert done.out.endswith("2 events were sent, 1 refused.\n")
    raw: Any = empty_service.redis
    stored = await raw.xrange(empty_service.config.orders_stream)
    await empty_service.ingest(*(Entry(id_.decode(), fields) for id_, fields in stored))
    rows = await empty_service.rows(
        "SELECT o.id, i.identifier FROM orders o JOIN identifiers i USING (customer_id) ORDER BY 1"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("#1", "email:a@x.org"),
        ("#2", "phone:+15125555678"),
    ]
    changes = await empty_service.rows("SELECT DISTINCT cause FROM segment_changes")
    assert changes == [{"cause": "order"}]
