"""The files that monitoring reads: alerts, their tests, and the dashboard."""

import json
from typing import Any

import yaml

from tests.paths import DEPLOY

RULES = DEPLOY / "prometheus/crm.rules.yml"
RULE_TESTS = DEPLOY / "prometheus/crm.rules.test.yml"

alerts: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana/crm.json").read_text())
