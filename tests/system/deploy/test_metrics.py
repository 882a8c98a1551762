"""Metrics exist that alerts, the dashboard and autoscaling query; alerts fire when they should."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from service.db.operations.status import note_verification
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.conftest import client
from tests.integration.worker.scene import working
from tests.paths import DEPLOY
from tests.processes import HOST, Processes
from tests.system.deploy.monitoring import RULE_TESTS, RULES, alerts, dashboard
from tests.wait import PATIENCE, until

_NAME = re.compile(r"\b(?:crm|process)_[a-z_]+")
_WITHOUT_ALERT = {
    "crm_build_info": "which release runs",
    "crm_customers": "the business's own figures",
    "crm_entries_applied": "the rate depends on the shop; CrmEntriesStuck fires if none is applied",
    "crm_entries_stale": "late events are ordinary",
    "crm_entries_duplicate": "repeats are ordinary",
    "crm_merges_due": "it matters how long they wait: crm_oldest_merge_due_seconds",
    "crm_merges_protected": "a marketplace has many; staff look at the page Duplicates",
    "crm_dead_letters_kept_bytes": "crm_dead_letters_bound_used_ratio compares it with the bound",
    "crm_batch_entries": "small batches are a quiet hour",
    "crm_pending_entries": "their age has an alert; their number says little",
    "crm_stream_pending_entries": "their age has an alert; their number says little",
    "crm_unpublished_changes": "their age has an alert; their number says little",
    "crm_unpublished_removals": "the same",
    "crm_losses": "crm_open_losses has the alert",
    "crm_foreign_entries": "crm_open_foreign_records has the alert",
    "crm_lost_entries": "the size of a loss; crm_open_losses has the alert",
    "crm_trimmed_entries": "trimming is ordinary; an alert fires when it is held up",
    "crm_replica_lag_seconds": "crm_replica_in_use compares it with the setting",
    "crm_replica_fallbacks": "crm_replica_in_use changes even if nobody reads",
    "crm_webhooks_delivered": "the rate depends on the shop",
    "crm_webhooks_failed": "one failure is ordinary; crm_webhook_failing_seconds has the alert",
    "crm_webhooks_waiting": "their age has an alert; their number says little",
    "crm_order_conflicts": "CrmConflicts fires when one comes",
    "process_cpu_seconds": "how busy a process is; other alerts fire if work is late",
    "process_resident_memory_bytes": "a process over its limit is killed, and CrmRestarts fires",
    "process_virtual_memory_bytes": "has no meaning on its own",
}
"""Metrics without an alert, each with the reason."""


def expressions() -> Iterator[str]:
    """Return all expressions of alerts, dashboard and autoscaling."""
    yield from (alert["expr"] for alert in alerts)
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for resource in (DEPLOY / "kubernetes").rglob("*.yaml"):
        yield from re.findall(r"query: (.+)", resource.read_text())


async def until_reading(http: httpx.AsyncClient) -> None:
    async def reads() -> bool:
        return "crm_last_read_seconds " in (await http.get("/metrics")).text

    await until(reads)


async def test_every_metric_that_is_queried_exists(service: Service) -> None:
    """Compare the metrics named in alerts, dashboard and autoscaling with a running service."""
    await service.ingest(entry("ORD-1", email="a@example.org"), entry("ORD-2", total="x"))
    async with service.engine.begin() as connection:
        await note_verification(connection, [], {})
    # Replica and partitions have metrics of their own; the primary stands in for a replica.
    more = {"database_read_url": service.config.database_url, "orders_partitions": 2}
    async with client(service, **more) as http, working(service, orders_partitions=2):
        await until_reading(http)
        await http.get("/api/v1/statistics")
        text = (await http.get("/metrics")).text
    names = set(re.findall(r"^([a-z_]+)(?=[ {])", text, re.MULTILINE))
    names |= set(
        re.findall(r"^# TYPE (\S+) (?:gauge|counter)", text, re.MULTILINE)
    )  # metrics that have no value now
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert len(asked) >= 20
    assert asked - names == set()
    exported = set(re.findall(r"^# TYPE (\S+?)(?:_total)? ", text, re.MULTILINE))
    with_alert = {
        re.sub(r"_(total|bucket|count)$", "", name)
        for alert in alerts
        for name in _NAME.findall(alert["expr"])
    }
    assert exported - with_alert == exported & _WITHOUT_ALERT.keys()
    assert with_alert & _WITHOUT_ALERT.keys() == set()
    if promtool := shutil.which("promtool"):  # Prometheus's own linter accepts names and units
        lint = subprocess.run(  # noqa: ASYNC221, S603  it takes a moment
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert lint.returncode == 0, lint.stdout + lint.stderr


async def test_requests_are_measured_by_route_and_status(service: Service) -> None:
    async with client(service) as http:
        await http.get("/api/v1/customers/CUST-1")
        await http.get("/api/v1/customers/CUST-2")
        await http.request("MADEUP", "/nowhere")
        text = (await http.get("/metrics")).text
    count = "crm_http_request_seconds_count"
    one = '{method="GET",route="/api/v1/customers/{id}",status="404"}'
    assert f"{count}{one} 2.0\n" in text
    assert f'{count}{{method="other",route="(no route)",status="404"}} 1.0\n' in text
    assert "CUST-" not in text


async def test_the_result_of_a_verification_is_a_metric(service: Service) -> None:
    async with client(service) as http:
        assert "crm_broken_invariants" not in (await http.get("/metrics")).text
        for broken, told in (([2, 6], "2.0"), ([], "0.0")):
            async with service.engine.begin() as connection:
                await note_verification(connection, broken, {})
            text = (await http.get("/metrics")).text
            assert f"crm_broken_invariants {told}\n" in text
    assert re.search(r"^crm_verified_timestamp_seconds 1\.\d+e\+09$", text, re.MULTILINE)


async def test_a_worker_serves_metrics_on_its_own_port(crm: Processes) -> None:
    worker = await crm.worker()
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        text = (await http.get(f"http://{HOST}:{worker.port}/metrics")).text
    assert 'crm_up{part="redis"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_alerts_pass_their_promtool_tests() -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed")
    for command in (["check", "rules", RULES.name], ["test", "rules", RULE_TESTS.name]):
        done = subprocess.run(  # noqa: S603
            [promtool, *command], cwd=RULES.parent, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
