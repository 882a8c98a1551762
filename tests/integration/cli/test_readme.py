"""The README lists every setting, command and metric, and no others; its links lead somewhere."""

import re
import tomllib

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.cli.main import app
from service.config import Config
from service.db.operations.status import note_verification
from tests.conftest import Service
from tests.integration.http.conftest import client
from tests.integration.worker.scene import working
from tests.paths import ROOT
from tests.system.deploy.test_metrics import until_reading

README = (ROOT / "README.md").read_text()
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "deploy/README.md",
    "deploy/integrating.md",
)


def test_every_setting_is_listed_and_no_other() -> None:
    listed = set(re.findall(r"^\|.*?\|", README, re.MULTILINE))
    named = {name for cell in listed for name in re.findall(r"`CRM_([A-Z_]+)`", cell)}
    assert named == {name.upper() for name in Config.model_fields}


def test_every_command_is_listed_and_no_other() -> None:
    named = set(re.findall(r"^\| `crm ([a-z-]+)", README, re.MULTILINE))
    named |= set(re.findall(r"`crm (import) ", README))
    commands = {
        command.name or (command.callback.__name__ if command.callback else "")
        for command in app.registered_commands
    }
    assert named == commands | {str(group.name) for group in app.registered_groups}


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


async def test_every_metric_is_listed_with_its_type_and_no_other(service: Service) -> None:
    """Hold the table against a process that tells all there is: replica, partitions and all."""
    async with service.engine.begin() as connection:
        await note_verification(connection, [])
    read_url = service.config.database_url
    async with (
        client(service, database_read_url=read_url, orders_partitions=2) as http,
        working(service, orders_partitions=2),
    ):
        await until_reading(http)
        await http.get("/api/v1/statistics")
        families = list(text_string_to_metric_families((await http.get("/metrics")).text))
    told = {
        f"{it.name}_total" if it.type == "counter" else it.name: it.type
        for it in families
        if it.name.startswith("crm_")
    }
    rows = re.findall(r"^\| (`crm_[^|]+) \| (\w+) \| ", README, re.MULTILINE)
    listed = [(name, kind) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(listed) == sorted(told.items())


def _anchors(page: str) -> set[str]:
    """Give what a link can point to, as the forges make it from headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file.read_text()), target


def test_the_changelog_begins_with_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    first = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    assert first
    assert first[1] == version
