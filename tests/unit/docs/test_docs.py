"""README and docs list what the code has, and nothing else; links and commands lead somewhere."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_camel
from typer.main import get_command

from service.cli.main import app
from service.config import Config
from service.core.order_event import Reason
from service.db.customers.customer_filter import CustomerFilter
from tests.paths import ROOT

DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
PAGES = sorted(
    (*ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md"), *DOCS.rglob("*.md")),
)
MOST_LINES = 200
"""The README stays short. It links to the pages that say more."""
_FOLDERS = ("service", "consumers", "migrations", "tests", "deploy", "docs")
_PATH = re.compile(rf"(?:{'|'.join(_FOLDERS)})/[\w./-]*(?:::\w+)?")
_CRM = re.compile(r"(?<!-n )\bcrm ([a-z-]+)((?: |\\\|)[^#;)\n]*)?")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def table(page: Path) -> Iterator[list[str]]:
    """Yield the cells of every table row of a page. An escaped bar is part of its cell."""
    for line in page.read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def fragments(text: str) -> Iterator[str]:
    """Yield what a page shows as code: each line of a shell block, each word in backticks."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    yield from quoted(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


def test_every_setting_is_listed_with_its_default_and_no_other() -> None:
    listed: dict[str, str | None] = {}
    for first, default, *_ in table(DOCS / "settings.md"):
        names = quoted(first)
        if not any(name.startswith("CRM_") for name in names):
            continue  # a parameter of a URL
        defaults: list[str | None] = [*quoted(default)] or [None] * len(names)
        listed |= zip(names, defaults, strict=True)
    known = {f"CRM_{name.upper()}": field.default for name, field in Config.model_fields.items()}
    assert listed.keys() == known.keys()
    for name, default in known.items():
        whole = int(default) if isinstance(default, float) else default
        shown = None if default is None else str(whole)
        assert (listed[name] or "").lower() == (shown or "").lower(), name


def _commands() -> dict[str, Any]:
    group: Any = get_command(app)
    return {name: group.get_command(None, name) for name in group.list_commands(None)}


def _options(command: Any) -> set[str]:
    return {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def _all_options() -> dict[str, set[str]]:
    """Return the options of each command, by names such as ``status`` and ``keys list``."""
    found = {}
    for name, command in _commands().items():
        subcommands = getattr(command, "commands", None)
        if subcommands is None:
            found[name] = _options(command)
        else:
            found |= {f"{name} {sub}": _options(it) for sub, it in subcommands.items()}
    return found


def _listed_options() -> dict[str, set[str]]:
    """Return the options that the page of commands shows of each command."""
    groups = {name for name, command in _commands().items() if hasattr(command, "commands")}
    found = {}
    for first, *_ in table(DOCS / "commands.md"):
        for shown in quoted(first):
            words = shown.split(" ")
            name = " ".join(words[1 : 3 if words[1] in groups else 2])
            found[name] = set(re.findall(r"--[a-z0-9-]+", shown))
    return found


def test_every_command_is_listed_and_no_other() -> None:
    assert sorted(_listed_options()) == sorted(_all_options())


def test_json_is_listed_for_each_command_that_prints_it_and_for_no_other() -> None:
    known = _all_options()
    for name, shown in _listed_options().items():
        assert shown <= known[name], name
        assert ("--json" in shown) == ("--json" in known[name]), name


@every_page
def test_every_command_shown_exists_with_its_options(page: Path) -> None:
    commands = _commands()
    for fragment in fragments(page.read_text()):
        for name, rest in _CRM.findall(fragment):
            if name == "--version":
                continue
            assert name in commands or name.startswith("-"), fragment
            command = commands.get(name)
            if command is None:
                continue
            subcommands = getattr(command, "commands", {})
            words = [word for word in re.split(r" |\\\||\|", rest) if word]
            chosen = [subcommands[word] for word in words if word in subcommands]
            if subcommands and words:
                assert chosen, fragment
            known = set[str]().union(*map(_options, chosen or [command]))
            assert set(re.findall(r"(?<!\S)\[?(--[a-z0-9-]+)", rest)) <= known, fragment


@every_page
def test_every_make_target_shown_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for fragment in fragments(page.read_text()):
        for target in re.findall(r"^make ([a-z-]+)", fragment):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@every_page
def test_every_path_test_and_module_shown_exists(page: Path) -> None:
    for fragment in fragments(page.read_text()):
        words = fragment.split(" ")
        paths = words if len(words) == 1 or "pytest" in words[0] else []
        for word in paths:
            if not _PATH.fullmatch(word):
                continue
            path, _, test = word.partition("::")
            assert (ROOT / path).exists(), word
            assert not test or f"def {test}(" in (ROOT / path).read_text(), word
        for module in re.findall(r"python -m (tests[\w.]*)", fragment):
            assert find_spec(module), module


def test_every_log_line_and_panel_that_the_runbook_quotes_exists() -> None:
    runbook = (ROOT / "deploy/README.md").read_text().split("\n### Crm", 1)[1].split("\n## ", 1)[0]
    sources = [path.read_text() for path in (ROOT / "consumers").glob("*.py")]
    dashboard = json.loads((ROOT / "deploy/grafana/crm.json").read_text())
    shown = "\n".join([*sources, *(panel["title"] for panel in dashboard["panels"])])
    phrases = re.findall(r'"([^"]+)"', runbook)
    assert len(phrases) >= 5
    assert [phrase for phrase in phrases if re.sub(r"\s+", " ", phrase) not in shown] == []


def test_every_route_is_listed_and_no_other() -> None:
    document = json.loads((ROOT / "deploy/contracts/openapi.json").read_text())
    routes = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
        if method in {"get", "put", "post", "patch", "delete"}
    }
    cells = [name for first, *_ in table(DOCS / "http.md") for name in quoted(first)]
    listed = [name for name in cells if " " in name]
    assert sorted(listed) == sorted(routes)
    figures = document["components"]["schemas"]["Statistics"]["properties"]
    filters = {to_camel(field) for field in CustomerFilter.model_fields}
    assert {name for name in cells if " " not in name} - figures.keys() == filters


def _event(name: str) -> dict[str, Any]:
    """Return an event's schema, which `make contracts` writes from the code."""
    document = yaml.safe_load((ROOT / "deploy/contracts/asyncapi.yaml").read_text())
    schema: dict[str, Any] = document["components"]["schemas"][name]
    return schema


def test_every_field_of_an_order_event_is_listed_and_no_other() -> None:
    section = (DOCS / "streams.md").read_text().split("| field |", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (`.+?`) \| (yes|) ?\| (.+) \|$", section, re.MULTILINE)
    listed = {name: required == "yes" for names, required, _ in rows for name in quoted(names)}
    event = _event("orders")
    order = event["properties"]["data"]
    known = {name: name in event["required"] for name in event["properties"]} | {
        f"data.{name}": name in order["required"] for name in order["properties"]
    }
    assert listed == known
    shown = {names: set(quoted(rule)) for names, _, rule in rows}
    for field in ("customer", "shippingAddress"):
        (part,) = (it for it in order["properties"][field]["anyOf"] if it["type"] == "object")
        assert shown[f"`data.{field}`"] - {"CUST-…"} == part["properties"].keys()
    for field in ("status", "paymentStatus"):
        schema = order["properties"][field]
        values = schema.get("enum") or schema["anyOf"][0]["enum"]
        assert shown[f"`data.{field}`"] == {" ".join(values)}


def test_the_published_events_shown_have_every_field_and_no_other() -> None:
    page = (DOCS / "streams.md").read_text()
    documents = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for shown, name in zip(documents, ("customerSegmentChanged", "customerRemoved"), strict=True):
        event = _event(name)
        assert json.loads(shown).keys() == event["properties"].keys() - {"traceparent"}
        assert json.loads(shown)["data"].keys() == event["properties"]["data"]["properties"].keys()


def test_every_reason_for_a_refusal_is_listed_and_no_other() -> None:
    section = (DOCS / "streams.md").read_text().split("### Why an entry is refused", 1)[1]
    listed = re.findall(r"^\| `(\w+)` \|", section.split("\n## ", 1)[0], re.MULTILINE)
    assert listed == [reason.value for reason in Reason]


def test_the_story_of_a_batch_names_functions_that_exist() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## The story of one batch\n", 1)[1]
    steps = re.findall(r"^\| \d+ \| `(\w[\w/.]+)`: (.+?) \|", section, re.MULTILINE)
    assert len(steps) >= 15
    for path, names in steps:
        source = (ROOT / path).read_text()
        for name in quoted(names):
            assert re.search(rf"^ *(?:async def|def|class) {name}\b", source, re.MULTILINE), name


def _anchors(page: str) -> set[str]:
    """List what a link can point to, as the forges make it from headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        yield ((page.parent / path).resolve() if path else page), anchor


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, anchor in _links(page):
        assert file.exists(), file
        if anchor:
            assert anchor in _anchors(file.read_text()), (file, anchor)


def test_every_page_is_linked_from_another() -> None:
    linked = {file for page in PAGES for file, _ in _links(page) if file != page}
    linked |= {file / "README.md" for file in linked if file.is_dir()}
    assert set(PAGES) - linked <= {ROOT / "README.md"}


def test_every_decision_is_dated_listed_and_says_what_it_cost() -> None:
    files = {path.name for path in DECISIONS.glob("*.md")} - {"README.md"}
    listed = {}
    for date, decision in list(table(DECISIONS / "README.md"))[1:]:
        (name,) = re.findall(r"\]\(([^)]+)\)", decision)
        listed[name] = date
    assert listed.keys() == files
    for name, date in listed.items():
        assert re.fullmatch(rf"{date}-[a-z0-9-]+\.md", name), name
        text = (DECISIONS / name).read_text().lower()
        for part in ("problem", "choice", "alternatives", "cost"):
            assert part in text, (name, part)


def test_the_changelog_begins_with_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    first = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    assert first
    assert first[1] == version
