"""JSON is safe and exact, and tables fit their terminal without cutting a value."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from service.cli import output
from service.core.numbers import number_of

ROWS = [("1", "https://example.org/" + "a" * 40, "two words"), ("2", "short", "a b c d e f g h i")]
COLUMNS = ("Id", "URL", "Reason")


def test_json_writes_amounts_as_numbers_and_times_with_z(
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    output.print_json({"spent": Decimal("9999999999999.99"), "at": at, "none": None})
    assert json.loads(capsys.readouterr().out, parse_float=str) == {
        "spent": "9999999999999.99",
        "at": "2026-11-22T10:00:00Z",
        "none": None,
    }


def test_json_is_ascii_and_gives_every_character_back(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Zoë \x1b[2J \x9b \u202e 😀 \ud800"
    output.print_json([text])
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x1b" not in printed
    assert json.loads(printed) == [text]


def test_a_pipe_gets_one_line_per_row_whatever_a_value_holds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_table(("Id", "Text"), [(1, "a\tb\nc\x1b[2J")])
    assert capsys.readouterr().out == "Id\tText\n1\ta\\tb\\nc\\x1b[2J\n"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1000, "1,000 entries")],
)
def test_a_number_stands_with_the_word_that_fits_it(count: int, shown: str) -> None:
    assert number_of(count, "entry", "entries") == shown


@pytest.mark.parametrize("width", [10, 30, 60, 80, 90, 200])
def test_a_terminal_of_any_width_shows_every_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setattr(output, "_width", lambda _: width)
    output.print_table(COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert {word for row in ROWS for value in row for word in value.split()} <= {
        word for line in lines for word in line.split()
    }
    if width >= 90:
        assert lines[0].split() == list(COLUMNS)
        assert max(map(len, lines)) <= width
    if width == 200:
        assert len(lines) == len(ROWS) + 1


def test_the_last_column_wraps_before_rows_become_blocks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_width", lambda _: 40)
    output.print_table(("Id", "Reason"), [(7, "one two three four five six seven eight nine ten")])
    assert capsys.readouterr().out == (
        "Id  Reason\n7   one two three four five six seven\n    eight nine ten\n"
    )


def test_wide_letters_keep_columns_aligned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_width", lambda _: 80)
    output.print_table(("Name", "State"), [("山田太郎", "valid"), ("Ann", "valid")])
    assert capsys.readouterr().out == "Name      State\n山田太郎  valid\nAnn       valid\n"


def test_a_message_wraps_between_words_and_keeps_its_indent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_width", lambda _: 20)
    output.say("  see https://example.org/a-long-path for more of it")
    assert capsys.readouterr().out == (
        "  see\n  https://example.org/a-long-path\n  for more of it\n"
    )
