"""What `crm capacity` foretells, beside what is measured here."""

from typing import Any

import pytest

from service import capacity
from service.envelope import Entry
from tests.bench.load import events, pages
from tests.cli.conftest import Crm
from tests.conftest import Service

_EVENTS = 40_000
_CUSTOMERS = 15_000
_NEAR = 0.35

_WAL = "SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS bigint) AS bytes"
_SIZES = """
SELECT (pg_total_relation_size('customers') + pg_total_relation_size('customer_search'))
         / (SELECT count(*) FROM customers)::float8 AS customer,
       pg_total_relation_size('orders') / (SELECT count(*) FROM orders)::float8 AS "order",
       pg_total_relation_size('segment_changes')
         / (SELECT count(*) FROM segment_changes)::float8 AS change
"""


@pytest.mark.timeout(600)
async def test_bytes_are_near_what_is_measured(service: Service) -> None:
    documents = events(_EVENTS, _CUSTOMERS)
    redis: Any = service.redis
    number = 0
    ((before,),) = [tuple(row.values()) for row in await service.rows(_WAL)]
    for page in pages(documents, 1000):
        entries = []
        for document in page:
            number += 1
            entries.append(Entry(f"{1_700_000_000_000 + number}-0", {b"data": document}))
        await service.ingest(*entries)
    ((after,),) = [tuple(row.values()) for row in await service.rows(_WAL)]
    pipeline = redis.pipeline(transaction=False)
    for document in documents[:2000]:
        pipeline.xadd("measured", {"data": document})
    await pipeline.execute()
    in_redis = await redis.memory_usage("measured", samples=0)
    (sizes,) = await service.rows(_SIZES)
    measured = {**sizes, "wal": (after - before) / len(documents), "redis": in_redis / 2000}
    foretold = capacity.BYTES._asdict()
    assert measured.keys() == foretold.keys()
    for what, size in foretold.items():
        assert measured[what] == pytest.approx(size, rel=_NEAR), measured


async def test_the_command_works_it_out(crm: Crm) -> None:
    asked = ("capacity", "--customers", "1000000", "--orders-per-day", "86400")
    told = await crm(*asked, "--peak", "20", "--outage", "30", "--json")
    assert told.status == 0, told.err
    needs = told.document
    assert needs["peak_events_per_second"] == pytest.approx(80)
    assert needs["backlog_entries"] == 144_000
    assert needs["catch_up_seconds"] == pytest.approx(144_000 / (capacity.RATE - 80))
    assert needs["workers"] == 2
    size = capacity.BYTES
    orders = 86_400 * 365 * 3
    assert needs["database_bytes"] == pytest.approx(
        1_000_000 * size.customer + orders * (size.order + size.change)
    )
    plain = await crm(*asked, "--peak", "10000")
    assert plain.status == 0, plain.err
    assert "never, while the peak lasts" in plain.out
    assert "not measured on one PostgreSQL" in plain.out
