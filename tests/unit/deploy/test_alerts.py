"""Each alert is tested and explained, and each panel of the dashboard is complete."""

import re

from tests.paths import DEPLOY
from tests.system.deploy.monitoring import RULE_TESTS, alerts, dashboard


def test_each_alert_is_tested_and_says_how_urgent_it_is() -> None:
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


def test_every_panel_of_the_dashboard_is_complete() -> None:
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
