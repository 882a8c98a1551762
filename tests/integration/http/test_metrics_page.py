"""docs/metrics.md lists every metric with its type, and no other."""

import re

from prometheus_client.parser import text_string_to_metric_families

from service.db.operations.status import note_verification
from tests.conftest import Service
from tests.integration.http.conftest import client
from tests.integration.worker.scene import working
from tests.paths import ROOT
from tests.system.deploy.test_metrics import until_reading

PAGE = (ROOT / "docs/metrics.md").read_text()


async def test_every_metric_is_listed_with_its_type_and_no_other(service: Service) -> None:
    """Compare with a process that exports everything: replica and partitions included."""
    async with service.engine.begin() as connection:
        await note_verification(connection, [], {})
    read_url = service.config.database_url
    async with (
        client(service, database_read_url=read_url, orders_partitions=2) as http,
        working(service, orders_partitions=2),
    ):
        await until_reading(http)
        await http.get("/api/v1/statistics")
        families = list(text_string_to_metric_families((await http.get("/metrics")).text))
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in families
        if family.name.startswith("crm_")
    }
    rows = re.findall(r"^\| (`crm_[^|]+) \| (\w+) \| ", PAGE, re.MULTILINE)
    listed = [(name, kind) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(listed) == sorted(exported.items())
