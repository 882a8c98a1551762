"""Metrics, and what is built on them: alerts, their runbook, the dashboard, autoscaling."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from service.db.operations.status import note_verification
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.conftest import client
from tests.integration.worker.scene import working
from tests.paths import DEPLOY
from tests.processes import HOST, Processes
from tests.wait import until

RULES = DEPLOY / "prometheus/crm.rules.yml"
RULE_TESTS = DEPLOY / "prometheus/crm.rules.test.yml"
_NAME = re.compile(r"\b(?:crm|process)_[a-z_]+")
_WAKES_NOBODY = {
    "crm_build_info": "which release runs",
    "crm_customers": "the business's own figures",
    "crm_entries_applied": "their rate is the shop's; that none is applied is CrmEntriesStuck",
    "crm_entries_stale": "late events are ordinary",
    "crm_entries_duplicate": "repeats are ordinary",
    "crm_batch_entries": "small batches are a quiet hour",
    "crm_pending_entries": "their age tells, not their number",
    "crm_stream_pending_entries": "their age tells, not their number",
    "crm_unpublished_changes": "their age tells, not their number",
    "crm_losses": "those that nobody has acknowledged tell",
    "crm_lost_entries": "how bad it is; that it is, crm_open_losses tells",
    "crm_trimmed_entries": "trimming is ordinary; that it is held up tells",
    "crm_replica_lag_seconds": "crm_replica_in_use holds it against the setting",
    "crm_replica_fallbacks": "crm_replica_in_use tells without anybody reading",
    "process_cpu_seconds": "how busy a process is; what is late for it, the others tell",
    "process_resident_memory_bytes": "whoever limits it ends the process: CrmRestarts",
    "process_virtual_memory_bytes": "means nothing by itself",
}
"""Metrics without an alert, each with the reason."""

alerts: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana/crm.json").read_text())


def expressions() -> Iterator[str]:
    """Give every expression that ops rely on."""
    yield from (alert["expr"] for alert in alerts)
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for resource in (DEPLOY / "kubernetes").rglob("*.yaml"):
        yield from re.findall(r"query: (.+)", resource.read_text())


async def until_reading(http: httpx.AsyncClient) -> None:
    async def reads() -> bool:
        return "crm_last_read_seconds " in (await http.get("/metrics")).text

    await until(reads)


async def test_all_that_is_asked_for_is_told(service: Service) -> None:
    """Hold every metric's name in rules, dashboard and autoscaling against a running service."""
    await service.ingest(entry("ORD-1", email="a@example.org"), entry("ORD-2", total="x"))
    async with service.engine.begin() as connection:
        await note_verification(connection, [])
    # The primary in the replica's place, and partitions, for their metrics.
    more = {"database_read_url": service.config.database_url, "orders_partitions": 2}
    async with client(service, **more) as http, working(service, orders_partitions=2):
        await until_reading(http)
        await http.get("/api/v1/statistics")
        text = (await http.get("/metrics")).text
    names = set(re.findall(r"^([a-z_]+)(?=[ {])", text, re.MULTILINE))
    names |= set(re.findall(r"^# TYPE (\S+) gauge", text, re.MULTILINE))  # of things not there now
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert len(asked) >= 20
    assert asked - names == set()
    told = set(re.findall(r"^# TYPE (\S+?)(?:_total)? ", text, re.MULTILINE))
    wake = {
        re.sub(r"_(total|bucket|count)$", "", name)
        for alert in alerts
        for name in _NAME.findall(alert["expr"])
    }
    assert told - wake == told & _WAKES_NOBODY.keys()
    assert wake & _WAKES_NOBODY.keys() == set()
    if promtool := shutil.which("promtool"):  # names and units as Prometheus's own lint wants them
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


async def test_a_verification_is_told(service: Service) -> None:
    async with client(service) as http:
        assert "crm_broken_invariants" not in (await http.get("/metrics")).text
        for broken, told in (([2, 6], "2.0"), ([], "0.0")):
            async with service.engine.begin() as connection:
                await note_verification(connection, broken)
            text = (await http.get("/metrics")).text
            assert f"crm_broken_invariants {told}\n" in text
    assert re.search(r"^crm_verified_timestamp_seconds 1\.\d+e\+09$", text, re.MULTILINE)


async def test_a_worker_tells_the_same_on_its_own_port(crm: Processes) -> None:
    worker = await crm.worker()
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://{HOST}:{worker.port}/metrics")).text
    assert 'crm_up{part="redis"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed")
    for command in (["check", "rules", RULES.name], ["test", "rules", RULE_TESTS.name]):
        done = subprocess.run(  # noqa: S603
            [promtool, *command], cwd=RULES.parent, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried_and_says_how_urgent_it_is() -> None:
    tried = set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text()))
    assert tried == {alert["alert"] for alert in alerts}
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"]["summary"].endswith(".")


def test_each_alert_has_its_paragraph_in_the_runbook() -> None:
    runbook = (DEPLOY / "README.md").read_text()
    sections = dict(
        re.findall(r"^### (Crm\w+)\n+(.+?)(?=^#|\Z)", runbook, re.MULTILINE | re.DOTALL)
    )
    assert sections.keys() == {alert["alert"] for alert in alerts}
    for name, text in sections.items():
        for part in ("Means", "Check", "Fix"):
            assert re.search(rf"^\*\*{part}:\*\*\s+\S", text, re.MULTILINE), (name, part)
    symptoms = runbook.split("| you see |", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"\[(Crm\w+)\]", symptoms)) == sections.keys()


def test_the_dashboard_is_whole() -> None:
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    spots = {(it["gridPos"]["x"], it["gridPos"]["y"]) for it in dashboard["panels"]}
    assert len(spots) == len(dashboard["panels"])
    for panel in panels:
        assert panel["title"]
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [it["name"] for it in dashboard["templating"]["list"]] == ["datasource"]
