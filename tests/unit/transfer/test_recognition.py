"""A file is unpacked and decoded, and its format is recognised or said."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from service.transfer.lines import FileKind, LineFault
from service.transfer.reading.record import UnreadableError
from service.transfer.recognition import Wanted, kinds_in, recognised_file

TEXT = "Email,Name\njane@x.org,Zoë\nal@x.org,Ångström\n"


def _contents(path: Path, **wanted: Any) -> tuple[str, list[Any], str | None]:
    """Return the format of a file, the contents of its records, and the guess of its encoding."""
    with recognised_file(path, Wanted(**wanted)) as file:
        contents = [record.content for record in file.records if record.content is not None]
        return file.format.name, contents, file.guess


PEOPLE = [
    {"Email": "jane@x.org", "Name": "Zoë"},
    {"Email": "al@x.org", "Name": "Ångström"},
]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", False),
        ("utf-8-sig", False),
        ("utf-16", True),
        ("utf-16-le", True),
        ("cp1252", True),
        ("latin-1", True),
    ],
)
def test_the_encoding_is_found_out_and_said(tmp_path: Path, encoding: str, said: bool) -> None:  # noqa: FBT001
    path = tmp_path / "c.csv"
    path.write_bytes(TEXT.encode(encoding))
    assert _contents(path)[:2] == ("customers", PEOPLE)
    assert (_contents(path)[2] is not None) is said


def test_a_letter_of_another_encoding_far_behind_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    plain = "".join(f"c{number}@x.org,C\n" for number in range(200_000))
    path.write_bytes(f"Email,Name\n{plain}".encode() + "z@x.org,Zoë\n".encode("cp1252"))
    name, contents, guess = _contents(path)
    assert (name, contents[-1]) == ("customers", {"Email": "z@x.org", "Name": "Zoë"})
    assert guess
    assert "“Zoë”" in guess


def test_one_bad_line_in_a_file_of_utf_8_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(TEXT.encode() + b"z@x.org,Zo\xeb\n")
    _, contents, guess = _contents(path)
    assert (contents[:2], guess) == (PEOPLE, None)
    assert isinstance(contents[2], LineFault)


def test_archives_are_unpacked(tmp_path: Path) -> None:
    packed = tmp_path / "c.csv.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert _contents(packed)[1] == PEOPLE
    archive = tmp_path / "c.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__MACOSX/._c.csv", "no")
        file.writestr("export/c.csv", TEXT)
    assert _contents(archive)[1] == PEOPLE
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("d.csv", TEXT)
    with pytest.raises(UnreadableError, match=r"holds 2 files \(export/c.csv, d.csv\)"):
        _contents(archive)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(UnreadableError, match="damaged"):
        _contents(packed)


def _workbook(path: Path, rows: list[list[Any]]) -> None:
    """Write the least that is a workbook."""
    cells = "".join(
        "<row>"
        + "".join(
            f"<c><v>{cell}</v></c>"
            if isinstance(cell, int | float)
            else f'<c t="inlineStr"><is><t>{cell}</t></is></c>'
            for cell in row
        )
        + "</row>"
        for row in rows
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
        f'PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/><Override '
        f'PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
        '<sheet name="People" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{relations}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)


def test_workbooks_are_read_with_all_digits(tmp_path: Path) -> None:
    path = tmp_path / "people.xlsx"
    _workbook(path, [["E-mail", "Phone", "Zip"], ["jane@x.org", 32471123456, 1.5], ["", "", ""]])
    assert _contents(path)[:2] == (
        "customers",
        [{"Email": "jane@x.org", "Phone": "32471123456", "Zip": "1.5"}],
    )
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnreadableError):
        _contents(path)


def test_any_table_can_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_text("Nr;Created (UTC);Sum = EUR\n7;2024-06-07 02:38:54;15.00\n")
    mapping = {"nr": "id", "Created (UTC)": "dateCreated", "Sum = EUR": "totalAmount"}
    name, contents, _ = _contents(path, mapping=mapping, constants={"status": "completed"})
    assert (name, contents) == (
        "orders",
        [
            {
                "id": "7",
                "dateCreated": "2024-06-07 02:38:54",
                "totalAmount": "15.00",
                "status": "completed",
            }
        ],
    )


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "none of the formats that we know. Its columns are 'Nr', 'Mail'"),
        ({"kind": FileKind.CUSTOMERS}, r'it lacks the column Email.*--map "Mail=Email"'),
        ({"format": "shopfy"}, "no format 'shopfy'. The formats are: shopify-orders"),
        ({"mapping": {"Male": "Email"}}, "no column 'Male' to map. Its columns are 'Nr', 'Mail'"),
        (
            {"kind": FileKind.CUSTOMERS, "mapping": {"Mail": "Email", "Nr": "Number"}},
            "customers have no column 'Number'. They have: ID, Name",
        ),
    ],
)
def test_what_is_not_recognised_says_what_to_map(
    tmp_path: Path, wanted: dict[str, Any], message: str
) -> None:
    path = tmp_path / "c.csv"
    path.write_text("Nr,Mail\n1,a@x.org\n")
    with pytest.raises(UnreadableError, match=message):
        _contents(path, **wanted)


def test_a_file_with_both_kinds_is_read_kind_by_kind(tmp_path: Path) -> None:
    customer = {
        "id": "CUST-1001",
        "name": "Jane",
        "email": "j@x.org",
        "segment": "new",
        "dateCreated": "2026-01-02T03:04:05Z",
    }
    order = {"id": "ORD-1", "customerId": "CUST-1001", "status": "completed", "dateCreated": "x"}
    path = tmp_path / "storage.json"
    path.write_text(
        json.dumps(
            {
                "recoveryEssentials_customers": json.dumps([customer]),
                "recoveryEssentials_orders": [order],
            }
        )
    )
    for kind, name, expected in (
        (FileKind.CUSTOMERS, "browser-customers", customer),
        (FileKind.ORDERS, "browser-orders", order),
    ):
        found, contents, _ = _contents(path, kind=kind)
        assert (found, contents) == (name, [expected])


@pytest.mark.parametrize(
    ("keys", "wanted", "kinds"),
    [
        (["orders", "customers"], Wanted(), ["customers", "orders"]),
        (["customers", "orders"], Wanted(kind=FileKind.ORDERS), ["orders"]),
        (["orders"], Wanted(), [None]),
    ],
)
def test_a_file_with_customers_and_orders_is_read_twice(
    tmp_path: Path, keys: list[str], wanted: Wanted, kinds: list[str | None]
) -> None:
    records = {
        "customers": [{"id": "CUST-1", "name": "", "email": "", "dateCreated": "", "segment": ""}],
        "orders": [{"id": "1", "status": "", "customerId": "CUST-1", "dateCreated": ""}],
    }
    path = tmp_path / "storage.json"
    path.write_text(json.dumps({f"recoveryEssentials_{key}": records[key] for key in keys}))
    assert kinds_in(path, wanted) == kinds
