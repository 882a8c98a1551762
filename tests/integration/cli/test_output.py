"""Output into a pipe, into terminals of several widths, and as JSON."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from service.core.scopes import Role, Scope
from service.db.accounts import api_keys, users
from service.db.grants import WORKER
from service.server_urls import masked
from tests.conftest import Service
from tests.events import entry
from tests.integration.cli.conftest import Crm
from tests.integration.cli.pseudo_terminal import in_terminal
from tests.processes import environment

KEY_NAME = "nightly export of everything to the data warehouse of the finance department"
EMAIL = "a.person.with.a.very.long.address@department.subdomain.example.com"
REASON = "invalid_currency"
ERROR = "`data.currency` must be a code of ISO 4217, such as USD"
LOST = """
INSERT INTO losses (stream, kind, after_id, until_id, entries, since, noticed_at, last_noticed_at)
VALUES ('orders', 'removed', '1795810790146-0', '1795810790999-17', 6, now(), now(), now())
"""
WIDTHS = (60, 200)
LISTS = ("dead-letters list", "keys list", "users list", "losses")
REPORTS = ("status", "verify", "rebuild", "capacity --customers 9 --orders-per-day 9")
BOX = set("│┃─━┏┓┗┛┡┩╇└┘├┤╭╮╰╯\x1b…")


@pytest.fixture
async def filled(empty_service: Service) -> Service:
    """Fill every list with something that is long."""
    service = empty_service
    await service.ingest(
        entry("ORD-1", email="a@x.org", currency="euros"), entry("ORD-2", email="b@x.org")
    )
    async with service.engine.begin() as connection:
        await api_keys.create_key(connection, KEY_NAME, list(Scope), actor="a test")
        await users.add_user(connection, EMAIL, "correct horse battery", Role.ADMIN, actor="a test")
    await service.execute(LOST)
    return service


@pytest.mark.usefixtures("filled")
async def test_every_list_prints_json_on_request(crm: Crm) -> None:
    documents = await _documents(crm, LISTS)
    (letter,) = documents["dead-letters list"]
    assert (letter["id"], letter["reason"], letter["error"]) == ("1", REASON, ERROR)
    assert letter["lastSeen"].endswith("Z")
    (key,) = documents["keys list"]
    assert (key["name"], key["state"], key["expiresAt"]) == (KEY_NAME, "valid", None)
    (user,) = documents["users list"]
    assert (user["email"], user["state"], user["lastSignInAt"]) == (EMAIL, "enabled", None)
    (loss,) = documents["losses"]
    assert (loss["afterId"], loss["entries"]) == ("1795810790146-0", 6)


@pytest.mark.usefixtures("filled")
async def test_every_report_prints_json_on_request(crm: Crm) -> None:
    # The last two change what the others report.
    documents = await _documents(crm, (*REPORTS, "replay --all", "dead-letters replay --all"))
    assert documents["status"]["deadLetters"] == 1
    broken = [it["number"] for it in documents["verify"]["findings"] if not it["holds"]]
    assert (broken, documents["verify"]["ok"]) == ([2], False)
    assert documents["rebuild"]["examined"] == 1
    assert documents["capacity --customers 9 --orders-per-day 9"]["workers"] == 2
    assert documents["replay --all"]["streams"][0]["afterId"] == "0-0"
    assert documents["dead-letters replay --all"]["refused"] == [
        {"id": "1", "reason": REASON, "error": ERROR}
    ]


@pytest.mark.usefixtures("filled")
async def test_an_import_prints_json_on_request(crm: Crm, tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("Email,Segment,Shoe Size\nb@x.org,vip,9\nc@x.org,,\nnobody,,\n")
    ended = await crm("import", str(path), "--json")
    assert ended.status == 1
    document = ended.document
    assert document.pop("asOf").endswith("Z")
    assert [record["email"] for record in document.pop("firstRecords")] == ["b@x.org", "c@x.org"]
    assert document == {
        "applied": False,
        "kind": "customers",
        "format": "customers",
        "title": "customers in our own columns",
        "guess": None,
        "firstDate": None,
        "lastDate": None,
        "new": 1,
        "changed": 0,
        "unchanged": 1,
        "older": 0,
        "refused": 1,
        "lines": {"total": 4, "header": 1, "empty": 0, "otherKind": 0, "read": 2, "refused": 1},
        "refusedFile": f"{path}.refused.csv",
        "firstRefused": [
            {
                "line": 4,
                "column": "Email",
                "problem": "is not an e-mail address",
                "remedy": "correct it",
                "mapping": "",
            }
        ],
        "otherSegments": 1,
        "otherFigures": 0,
        "kept": 0,
        "leftAside": {"Shoe Size": ""},
        "noticed": [],
        "money": {},
        "namedBy": {},
        "customers": 0,
        "knownCustomers": 0,
    }


async def test_empty_lists_are_empty_arrays(empty_service: Service, crm: Crm) -> None:
    assert await empty_service.rows("SELECT 1 FROM dead_letters") == []
    ended = await asyncio.gather(*(crm(*command.split(), "--json") for command in LISTS))
    assert [json.loads(one.out) for one in ended] == [[]] * len(LISTS)


@pytest.mark.usefixtures("filled")
async def test_a_piped_list_has_one_line_per_row(crm: Crm) -> None:
    for command, values in {
        "dead-letters list": (REASON, ERROR),
        "keys list": (KEY_NAME, "admin erase export read write"),
        "users list": (EMAIL, "never"),
        "losses": ("1795810790146-0", "at least 6"),
    }.items():
        ended = await crm(*command.split())
        assert ended.status == 0, ended.err
        header, row = (line.split("\t") for line in ended.out.splitlines())
        assert len(header) == len(row)
        assert set(values) <= set(row)
        assert not BOX & set(ended.out)


@pytest.mark.timeout(300)  # it starts nine processes, one after the other
@pytest.mark.parametrize("columns", WIDTHS)
async def test_a_terminal_wraps_between_words_and_cuts_nothing(
    filled: Service, tmp_path: Path, columns: int
) -> None:
    env = environment(filled.servers, data_dir=tmp_path) | {"TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    database_url, redis_url = filled.servers.url_of(WORKER), filled.config.redis_url or ""
    whole = {
        "dead-letters list": (REASON, *ERROR.split()),
        "keys list": (*KEY_NAME.split(), "export"),
        "users list": (EMAIL,),
        "losses": ("1795810790146-0", "1795810790999-17"),
        "status": (masked(redis_url), masked(database_url)),
        "status --redis-url": (redis_url,),
        "verify": ("holds", "BROKEN"),
        "losses --acknowledge 77": ("77.",),
        "--help": ("customers", "CRM_DATABASE_URL."),
    }
    for command, words in whole.items():
        _, output = await in_terminal(columns, env, *command.split())
        assert set(words) <= set(output.split()), (command, output)
        assert not BOX - {"…"} & set(output), (command, output)
        for line in output.splitlines():
            value = line.split("  ")[-1].strip()
            assert len(line) <= columns or " " not in value, (command, line)


async def _documents(crm: Crm, commands: Sequence[str]) -> dict[str, Any]:
    """Run each command with ``--json``; return what it printed."""
    documents = {
        command: json.loads((await crm(*command.split(), "--json")).out) for command in commands
    }
    for name in _names(documents.values()):
        assert "_" not in name
        assert not name[0].isupper()
    return documents


def _names(document: object) -> set[str]:
    """Return all names in a document, except in objects that streams or processes name."""
    if isinstance(document, dict):
        inside = [
            _names(value)
            for name, value in document.items()
            if name not in {"parts", "trimmingHeldBy", "accepted"}
        ]
        return set(document).union(*inside)
    if isinstance(document, str | int | float | None):
        return set()
    return set[str]().union(*map(_names, document))  # type: ignore[call-overload]
