"""The composed statements are checked in as they are executed, and say what they are for."""

import pytest

from tests import sql
from tests.paths import ROOT


@pytest.mark.parametrize("name", sql.STATEMENTS)
def test_each_file_equals_the_statement_that_is_executed(name: str) -> None:
    """After a change: `make sql`, and read the difference."""
    statement = sql.STATEMENTS[name].text
    assert sql.body_of(name).rstrip("\n") == sql.formatted(statement)
    assert sql.words(sql.body_of(name)) == sql.words(statement)


@pytest.mark.parametrize("name", sql.STATEMENTS)
def test_each_file_begins_with_three_lines_of_explanation(name: str) -> None:
    head = sql.head_of(name)
    assert len(head) == 3
    assert all(line.startswith("-- ") and line.endswith(".") for line in head)
    assert head[2].startswith("-- One statement")


def test_no_file_is_left_over() -> None:
    files = {
        file.relative_to(ROOT / "service").as_posix() for file in ROOT.glob("service/**/*.sql")
    }
    assert files == set(sql.STATEMENTS)


def test_formatting_changes_only_white_space() -> None:
    written = "SELECT a,b FROM (\n SELECT  'it''s, (CASE' AS a -- (no (\n FROM t WHERE x\n) s"
    formatted = sql.formatted(written)
    assert formatted == (
        "SELECT a,b FROM (\n  SELECT  'it''s, (CASE' AS a -- (no (\n  FROM t WHERE x\n) s"
    )
    assert sql.words(formatted) == sql.words(written)
