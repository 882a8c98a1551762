"""Lines that are read and lines that are refused add up to those of the file."""

from hypothesis import given
from hypothesis import strategies as st

from service.transfer.reading.record import LONGEST_LINE
from tests.unit.transfer.reading import csv_records, refused

HEADER = "Email,Name,City,Notes\n"
OPEN = "a quote opens here and does not close at the end of a cell"


def _people(first: int, last: int) -> str:
    return "".join(f"c{number}@x.org,C {number},Ghent,\n" for number in range(first, last))


def _names(records: list[object]) -> list[str]:
    return [
        record.content["Email"]  # type: ignore[attr-defined]
        for record in records
        if isinstance(record.content, dict)  # type: ignore[attr-defined]
    ]


def test_an_unclosed_quote_swallows_no_line() -> None:
    text = HEADER + _people(0, 1000) + 'x@x.org,"Jane,Ghent,\n' + _people(1000, 4000)
    records = csv_records(text)
    assert refused(records) == [(1002, "Name", OPEN)]
    assert _names(list(records)) == [f"c{number}@x.org" for number in range(4000)]


def test_a_quote_that_closes_by_chance_swallows_no_line() -> None:
    for closing in ('c@x.org,"Bob",Ghent,\n', 'c@x.org,Bob",Ghent,\n', 'c@x.org,Bob,Ghent,5"\n'):
        text = HEADER + 'x@x.org,"Jane,Ghent,\n' + _people(0, 9) + closing + _people(9, 12)
        records = csv_records(text)
        assert refused(records)[0] == (2, "Name", OPEN)
        people = [f"c{number}@x.org" for number in range(12)]
        assert [name for name in _names(list(records)) if name != "c@x.org"] == people
        assert sum(record.lines for record in records) == 14


def test_a_quote_that_closes_where_a_cell_ends_swallows_no_line() -> None:
    """Nine people would be one cell, and the record would have as many cells as the header."""
    text = HEADER + 'x@x.org,"Jane,Ghent,\n' + _people(0, 9) + 'z",Ghent,ok\n'
    records = csv_records(text)
    assert refused(records) == [(2, "Name", OPEN)]
    assert _names(list(records))[:9] == [f"c{number}@x.org" for number in range(9)]


def test_two_defects_that_cancel_out_swallow_no_line() -> None:
    text = 'Email,Name,Notes\na@x.org,"Jane,\nb@x.org,Bob",x\nc@x.org,Cas,\n'
    assert refused(csv_records(text)) == [(2, "Name", OPEN)]


def test_a_quote_that_never_closes_is_found_at_the_end_of_the_file() -> None:
    assert refused(csv_records(HEADER + _people(0, 2) + 'x@x.org,X,Ghent,"a\nb')) == [
        (4, "Notes", OPEN),
        (5, "", "has 1 cells, but the header has 4"),
    ]


def test_notes_over_several_lines_are_one_record() -> None:
    note = 'Dear Jane,\r\nsize: 5 ""inch"", blue\r\n\r\n- call, write\r\n'
    records = csv_records(f'{HEADER}a@x.org,A,Ghent,"{note}"\nb@x.org,B,"Gh\nent",\n')
    assert [(record.line, record.lines) for record in records] == [(2, 5), (7, 2)]
    assert records[0].content == {
        "Email": "a@x.org",
        "Name": "A",
        "City": "Ghent",
        "Notes": note.replace('""', '"'),
    }


def test_a_bad_line_inside_quotes_loses_no_line() -> None:
    for bad in ("x" * (LONGEST_LINE + 5), "Zo\udceb"):
        records = csv_records(f'{HEADER}a@x.org,A,Ghent,"one\n{bad}\ntwo"\nb@x.org,B,,\n')
        assert [record.line for record in records] == [2, 3, 4, 5]
        assert refused(records)[0] == (2, "Notes", OPEN)
        assert _names(list(records))[-1] == "b@x.org"


def test_a_spreadsheet_may_name_its_separator() -> None:
    assert csv_records("sep=;\r\nEmail;Name\r\na@x.org;A\r\n", ";")[0].content == {
        "Email": "a@x.org",
        "Name": "A",
    }


@given(
    st.lists(
        st.text(alphabet='",;\n\r\t ab@é\udceb', max_size=30).map(lambda text: f"{text}\n"),
        max_size=30,
    ).map("".join),
    st.sampled_from([HEADER, "Email,Name\n", "Email\n"]),
)
def test_every_line_has_an_account(text: str, header: str) -> None:
    records = csv_records(header + text)
    lines = text.encode(errors="replace").splitlines()
    assert sum(record.lines for record in records) == len(lines)
    following = 2
    for record in records:
        assert record.line == following
        following += record.lines
