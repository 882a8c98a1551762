"""The programs of `deploy/integrating.md` are short, and their packages are pinned."""

import json

from tests.paths import ROOT
from tests.system.clients.conftest import PROGRAMS
from tests.system.clients.test_programs import PUBLISHERS, SUBSCRIBERS

LOCK = ROOT / "tests/system/clients/package-lock.json"
MOST_LINES = 45


def test_every_client_has_a_short_publisher_and_a_short_subscriber() -> None:
    assert {name.removeprefix("publish") for name in PUBLISHERS} == {
        name.removeprefix("subscribe") for name in SUBSCRIBERS
    }
    assert len(PUBLISHERS) == 4
    for name, text in PROGRAMS.items():
        assert len([line for line in text.splitlines() if line]) <= MOST_LINES, name


def test_npm_packages_are_pinned_and_name_no_registry() -> None:
    lock = json.loads(LOCK.read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert "node_modules/redis" in packages
    for name, package in packages.items():
        assert package.keys() >= {"version", "integrity"}, name
        assert "resolved" not in package, name
