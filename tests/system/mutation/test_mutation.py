"""Lines that the service rests on are switched off one by one; the suite must notice each.

The checkout is copied, one line of the copy is changed, and the tests that guard the line run in
the copy, in a process of their own, on the servers of this run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

from tests.paths import ROOT
from tests.servers import Servers

COPIED = ("service", "consumers", "migrations", "deploy", "tests", "pyproject.toml")
PATIENCE = 300.0
pytestmark = pytest.mark.timeout(400)
SOME_FAILED = 1
"""pytest's exit status if some tests failed; 2 or more means that it could not run them."""

OUTLOOK = "tests/integration/db/outlook/test_refresh.py"
RELAY = "tests/integration/worker/test_relay.py"


class Mutation(NamedTuple):
    """A line, what to write instead to switch it off, and the tests of which one must then fail."""

    file: str
    line: str
    without: str
    tests: tuple[str, ...]


MUTATIONS = {
    "the greater key wins": Mutation(
        "service/db/ingest/apply.py",
        "_NEWER = f\"{_key('excluded', *_KEY)} > {_key('o', *_KEY)}\"",
        '_NEWER = "true"',
        (
            "tests/integration/db/operations/dead_letters/test_over_http.py::test_a_replayed_event_older_than_the_order_is_stale_and_removed",
        ),
    ),
    "customers are locked in the order of their ids": Mutation(
        "service/db/ingest/owners.py",
        "SELECT id FROM concerned WHERE (SELECT ready FROM ready) ORDER BY id",
        "SELECT id FROM concerned WHERE (SELECT ready FROM ready) ORDER BY random()",
        (
            "tests/integration/db/ingest/test_concurrency.py::test_four_connections_on_a_thousand_customers_do_not_deadlock",
        ),
    ),
    "what was never acknowledged is taken over": Mutation(
        "consumers/reclaimer.py",
        "        while self._applier.waiting_since is None:",
        "        while False:",
        (
            "tests/integration/worker/test_consumer.py::test_more_than_a_page_of_orphans_is_taken_over",
        ),
    ),
    "the relay's ids are its own and rise": Mutation(
        "service/streams/out_stream.py",
        "redis.call('XADD', stream, ids_and_bodies[i], field, ids_and_bodies[i + 1])",
        "redis.call('XADD', stream, '*', field, ids_and_bodies[i + 1])",
        (f"{RELAY}::test_a_crash_between_xadd_and_marking_it_duplicates_no_change",),
    ),
    "formulas are escaped": Mutation(
        "service/transfer/formulas.py",
        "    return f\"regexp_replace({column}, '{_ANY_CELL}', '''', 'g')\"",
        "    return column",
        ("tests/integration/transfer/test_export.py::test_formulas_are_escaped",),
    ),
    "an edit needs the latest ETag": Mutation(
        "service/db/customers/editing.py",
        '    if if_match not in {None, "*"} and if_match != etag(customer):',
        "    if False:",
        (
            "tests/integration/db/customers/test_editing.py::test_an_etag_covers_edits_but_not_orders",
        ),
    ),
    "a scope is needed": Mutation(
        "service/http/auth/guard.py",
        "    return next((Scope(scope) for scope in needed if scope not in actor.scopes), None)",
        "    return None",
        (
            "tests/integration/http/auth/test_keys.py::test_a_scope_opens_what_needs_it_and_nothing_else",
        ),
    ),
    "customers may leave after their first order, too": Mutation(
        "service/insight/buying.py",
        "    y = x + late",
        "    y = x",
        ("tests/unit/insight/test_golden.py::test_mbg_nbd",),
    ),
    "orders of one day are one": Mutation(
        "service/db/outlook/facts.py",
        "_DAY = \"CAST(o.date_created AT TIME ZONE 'UTC' AS date)\"",
        '_DAY = "o.id"',
        (f"{OUTLOOK}::test_outlooks_are_what_the_formulas_say_of_everybody",),
    ),
    "an outlook that would read the same is not written": Mutation(
        "service/db/outlook/refresh.py",
        '    OR abs(f.value - o.value) > GREATEST(0.01 * o.value, 0.005))"""',
        '    OR f.value <> o.value)"""',
        (f"{OUTLOOK}::test_only_what_reads_differently_is_written",),
    ),
}
GUARDS = sorted({test for mutation in MUTATIONS.values() for test in mutation.tests})


class Ran(NamedTuple):
    """The result of a run of tests."""

    status: int
    failed: set[str]
    output: str


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout to a place where it may be changed."""
    folder = tmp_path_factory.mktemp("mutated")
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(folder: Path, servers: Servers, *tests: str) -> Ran:
    """Run tests of a copy with the copy's code."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    # Python looks in the working folder first, also in processes that the tests start.
    options = ("-q", "-x", "-p", "no:cacheprovider", f"--junitxml={report}")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=folder,
        env={
            **os.environ,
            "CRM_TEST_DATABASE_URL": servers.database_url,
            "CRM_TEST_REDIS_URL": servers.redis_url,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    cases = ET.parse(report).iter("testcase") if report.exists() else ()  # noqa: S314  our own
    failed = {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').split('[')[0]}"
        for case in cases
        if case.find("failure") is not None
    }
    return Ran(done.returncode, failed, done.stdout + done.stderr)


def test_all_guards_pass_on_an_unchanged_copy(copy: Path, real_servers: Servers) -> None:
    """So a guard that fails below fails because of the line that was switched off."""
    done = subprocess.run(
        [sys.executable, "-c", "import service, consumers, tests; print(service.__file__)"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(copy)
    ran = run(copy, real_servers, *GUARDS)
    assert ran.status == 0, ran.output


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_guard_fails_when_its_line_is_switched_off(
    copy: Path, real_servers: Servers, name: str
) -> None:
    mutation = MUTATIONS[name]
    file = copy / mutation.file
    sound = file.read_text()
    assert sound.count(mutation.line) == 1, f"{mutation.file} has changed; name its line anew"
    file.write_text(sound.replace(mutation.line, mutation.without))
    try:
        ran = run(copy, real_servers, *mutation.tests)
    finally:
        file.write_text(sound)
    assert ran.status == SOME_FAILED, ran.output
    assert ran.failed, ran.output
    assert ran.failed <= set(mutation.tests), ran.output
