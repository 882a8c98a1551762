"""Files that are sent to the dashboard: looked at first, imported when somebody says so."""

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from service.core.scopes import Scope
from service.db.operations import imports
from service.http import import_runner
from tests.conftest import Service
from tests.integration.http.auth.conftest import assert_problem, serve
from tests.integration.http.conftest import client
from tests.integration.transfer.files import ORDERS
from tests.wait import until

PAGE = {"accept": "text/html"}
CUSTOMERS = b"""Email,Name,Plan
jane@x.org,Jane Smith,gold
not an address,Nobody,gold
al@x.org,Al,silver
"""
BOTH = """{"recoveryEssentials_orders": [
  {"id": "ORD-1", "customerId": "CUST-1007", "status": "delivered", "total": "42.00",
   "dateCreated": "2026-01-02T03:04:05Z"}],
 "recoveryEssentials_customers": [
  {"id": "CUST-1007", "name": "Jane Smith", "email": "jane@x.org", "segment": "new",
   "dateCreated": "2026-01-01T00:00:00Z", "notes": "Likes tea"}]}"""


async def send(
    http: httpx.AsyncClient, content: bytes, name: str = "customers.csv", **fields: str
) -> str:
    """Send a file, wait until it was looked at, and return the address of its page."""
    files = {"file": (name, content)}
    answer = await http.post("/imports", headers=PAGE, files=files, data=fields)
    assert answer.status_code == 303, answer.text
    address = answer.headers["location"]
    await at_rest(http, address)
    return str(address)


async def at_rest(http: httpx.AsyncClient, address: str) -> str:
    """Wait until an import does not run, and return its page."""
    page = ""

    async def rests() -> bool:
        nonlocal page
        page = (await http.get(address, headers=PAGE)).text
        return "data-poll" not in page

    await until(rests)
    return page


async def press(http: httpx.AsyncClient, address: str, action: str, **fields: str) -> str:
    """Press a button of an import's page, and return the page once the import rests."""
    answer = await http.post(f"{address}/{action}", headers=PAGE, data=fields)
    assert answer.status_code == 303, answer.text
    return await at_rest(http, answer.headers["location"])


def text_of(page: str) -> str:
    """Return a page's words, without markup."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("<main")[2])))


async def emails(service: Service) -> list[str]:
    """Return the e-mails of all customers."""
    rows = await service.rows("SELECT email FROM customers ORDER BY email")
    return [row["email"] for row in rows]


async def states(service: Service) -> list[str]:
    """Return the states of all imports, as they are stored."""
    return [row["state"] for row in await service.rows("SELECT state FROM imports ORDER BY id")]


async def test_a_file_is_looked_at_and_then_imported(
    service: Service, web: httpx.AsyncClient
) -> None:
    changed_at = 1_767_323_045_678  # as a browser says it
    address = await send(web, CUSTOMERS, changedAt=str(changed_at))
    words = text_of((await web.get(address, headers=PAGE)).text)
    assert await emails(service) == []
    for told in (
        "Jane Smith",
        "Import 2 records",
        "2 read, 1 refused",
        "Not known here: Plan.",
        "Is not an e-mail address",
        "Its values count as of Jan 2, 2026",
    ):
        assert told in words, words
    words = text_of(await press(web, address, "run", apply="yes"))
    assert "Imported on" in words
    assert await emails(service) == ["al@x.org", "jane@x.org"]
    refused = await web.get(f"{address}/refused.csv", headers=PAGE)
    assert refused.text.splitlines()[1].startswith("3,Email,is not an e-mail address")
    listed = text_of((await web.get("/imports", headers=PAGE)).text)
    assert "customers.csv" in listed
    assert "imported" in listed
    assert await service.rows("SELECT DISTINCT part FROM import_pieces") == [{"part": "refused"}]
    noted = await service.rows("SELECT actor, details FROM audit WHERE action = 'file.imported'")
    assert [(row["actor"], row["details"]["parts"][0]["new"]) for row in noted] == [("local", 2)]
    assert "Send it again" in await press_refused(web, address, "run", apply="yes")


async def press_refused(http: httpx.AsyncClient, address: str, action: str, **fields: str) -> str:
    """Press a button that cannot be pressed now, and return what the page says."""
    answer = await http.post(f"{address}/{action}", headers=PAGE, data=fields)
    assert answer.status_code == 409, answer.text
    return text_of(answer.text)


async def test_a_file_with_customers_and_orders_is_imported_whole(
    service: Service, web: httpx.AsyncClient
) -> None:
    address = await send(web, BOTH.encode(), "storage.json")
    words = text_of(await press(web, address, "run", apply="yes"))
    assert words.index("Customers of the browser's storage") < words.index("Orders of the browser")
    # What one part leaves to the other is no empty line.
    assert "2 empty, 2 of orders. Its values" in words, words
    assert "2 empty, 2 of customers. Its values" in words
    (customer,) = await service.rows("SELECT id, notes, total_orders FROM customers")
    assert customer == {"id": 1007, "notes": "Likes tea", "total_orders": 1}
    assert [row["customer_id"] for row in await service.rows(ORDERS)] == [1007]


async def test_a_refused_line_names_the_controls_of_the_page(web: httpx.AsyncClient) -> None:
    address = await send(web, b"ID,Email\n77,jane@x.org\n")
    words = text_of((await web.get(address, headers=PAGE)).text)
    assert "under Options, Columns to take , write ID=External ID" in words, words
    assert "--map" not in words
    refused = (await web.get(f"{address}/refused.csv", headers=PAGE)).text
    assert "number that your shop gives them: ID=External ID" in refused


async def test_options_are_corrected_without_sending_the_file_again(
    service: Service, web: httpx.AsyncClient
) -> None:
    address = await send(web, b"Mail,Naam\njane@x.org,Jane\n", "lijst.csv", timeZone="Mars")
    assert "'Mars' is no time zone" in text_of((await web.get(address, headers=PAGE)).text)
    words = text_of(await press(web, address, "run", options="yes"))
    assert "or format orders and columns THEIR COLUMN=id" in words
    assert "Import 1" not in words
    columns = {"format": "customers", "map": "Mail=Email\r\nNaam=Name", "set": "Notes=By post"}
    page = await press(web, address, "run", options="yes", **columns)
    assert "Import 1 record " in text_of(page)
    assert ">Mail=Email\nNaam=Name</textarea>" in page
    await press(web, address, "run", apply="yes")
    assert await service.rows("SELECT name, notes FROM customers") == [
        {"name": "Jane", "notes": "By post"}
    ]


async def test_an_import_whose_process_died_goes_on_in_another_one(
    service: Service, web: httpx.AsyncClient
) -> None:
    address = await send(web, CUSTOMERS)
    await service.execute(
        "UPDATE imports SET state = 'importing', applies = true, runner = 'dead', done = 1,"
        " total = 3, step = 'Writing', seen_at = now()"
    )
    page = (await web.get(address, headers=PAGE)).text
    assert "1 of 3 records written." in text_of(page)
    assert 'max="3" value="1"' in page
    await press_refused(web, address, "run", apply="yes")
    await service.execute("UPDATE imports SET seen_at = now() - interval '31 seconds'")
    words = text_of((await web.get(address, headers=PAGE)).text)
    assert "This import stopped before its end." in words
    async with client(service) as other:
        assert "Imported on" in text_of(await press(other, address, "run", apply="yes"))
    assert await emails(service) == ["al@x.org", "jane@x.org"]
    assert await service.in_transaction(imports.note_progress, 1, "dead", "Writing", 2, 3) is False


async def test_an_import_is_stopped_between_two_batches_and_goes_on(
    service: Service, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.transfer.importer.BATCH", 2)
    monkeypatch.setattr(import_runner, "_LOOK_SECONDS", 0.01)
    lines = "".join(f"c{n}@x.org\n" for n in range(9))
    address = await send(web, f"Email\n{lines}".encode())
    async with service.owner.begin() as connection:  # the import waits for it to write
        await connection.execute(text("LOCK TABLE customers IN SHARE MODE"))
        await web.post(f"{address}/run", headers=PAGE, data={"apply": "yes"})

        async def waits() -> bool:
            return bool(await service.rows("SELECT 1 FROM pg_locks WHERE NOT granted"))

        await until(waits)
        words = text_of(await press(web, address, "stop"))
        assert "This import stopped before its end." in words

    async def given_up() -> bool:
        return not await service.rows(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'crm import'"
        )

    await until(given_up)
    assert len(await emails(service)) == 2
    assert await states(service) == ["stopped"]
    await press(web, address, "run", apply="yes")
    assert len(await emails(service)) == 9


async def test_files_and_reports_are_gone_after_a_day(
    service: Service, web: httpx.AsyncClient
) -> None:
    done = await send(web, CUSTOMERS)
    await press(web, done, "run", apply="yes")
    waiting = await send(web, CUSTOMERS)
    await service.execute("UPDATE imports SET finished_at = finished_at - interval '23 hours'")
    assert await service.in_transaction(imports.forget_old) is None
    await service.execute("UPDATE imports SET finished_at = finished_at - interval '61 minutes'")
    assert await service.in_transaction(imports.forget_old) == 2
    assert await service.in_transaction(imports.forget_old) is None
    assert await service.rows("SELECT part FROM import_pieces") == []
    assert (await web.get(waiting, headers=PAGE)).status_code == 404
    words = text_of((await web.get(done, headers=PAGE)).text)
    assert "Details were deleted after a day." in words
    assert "Jane" not in words
    rows = await service.rows("SELECT report, error, summary FROM imports")
    assert [(row["report"], row["error"], row["summary"][0]["new"]) for row in rows] == [
        (None, None, 2)
    ]


async def test_a_file_that_nobody_wants_is_deleted(
    service: Service, web: httpx.AsyncClient
) -> None:
    address = await send(web, CUSTOMERS)
    answer = await web.post(f"{address}/delete", headers=PAGE)
    assert answer.headers["location"] == "/imports"
    assert await service.rows("SELECT id FROM imports") == []
    assert await service.rows("SELECT part FROM import_pieces") == []


async def test_only_those_who_may_change_customers_send_files(empty_service: Service) -> None:
    files = {"file": ("c.csv", CUSTOMERS)}
    async with serve(empty_service) as web:
        writer, reader = await web.key(Scope.READ, Scope.WRITE), await web.key(Scope.READ)
        headers = PAGE | writer.headers
        answer = await web.http.post("/imports", headers=headers, files=files)
        assert answer.status_code == 303
        address = answer.headers["location"]
        headers = PAGE | reader.headers

        async def ready() -> bool:
            return await states(empty_service) == ["ready"]

        await until(ready)
        assert (await web.http.post("/imports", headers=headers, files=files)).status_code == 403
        for action in ("run", "stop", "delete"):
            answer = await web.http.post(
                f"{address}/{action}", headers=headers, data={"apply": "yes"}
            )
            assert answer.status_code == 403
        answer = await web.http.get(f"{address}/refused.csv", headers=headers)
        assert answer.status_code == 403
        page = (await web.http.get(address, headers=headers)).text
        assert "Jane Smith" in page
        assert "<form" not in page.partition("<main")[2].partition("</main>")[0]
        answer = await web.http.post("/imports", headers=PAGE, files=files)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert await states(empty_service) == ["ready"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("", b"", "is missing; choose a file"),
        ("c.csv", b"", "is empty; choose another file"),
    ],
)
async def test_a_form_without_a_file_is_shown_again(
    service: Service, web: httpx.AsyncClient, name: str, content: bytes, told: str
) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = await web.post("/imports", headers=PAGE | kind, content=body)
    assert answer.status_code == 422
    assert told in text_of(answer.text)
    assert await service.rows("SELECT id FROM imports") == []


async def pieces(*, size: int, number: int) -> AsyncIterator[bytes]:
    """Yield a form with a file of ``number`` pieces, which does not end."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="c.csv"\r\n\r\nEmail\r\n'
    for _ in range(number):
        yield b"a" * size


@pytest.mark.parametrize("announced", [False, True])
async def test_a_file_that_is_too_large_is_refused_and_not_kept(
    service: Service, *, announced: bool
) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    if announced:
        kind["content-length"] = "300000"
    async with client(service, max_import_bytes=200_000) as web:
        body = pieces(size=50_000, number=6)
        answer = await web.post("/api/v1/imports", headers=kind, content=body)
        assert_problem(answer, 413, "200,000 bytes", "`crm import FILE`")
        body = pieces(size=50_000, number=3)
        kind.pop("content-length", None)
        answer = await web.post("/api/v1/imports", headers=kind, content=body)
        assert_problem(answer, 422, "is cut off")
    assert await service.rows("SELECT id FROM imports") == []


async def test_programs_import_files_too(empty_service: Service) -> None:
    async with serve(empty_service) as web:
        key = await web.key(Scope.READ, Scope.WRITE, name="nightly")
        files = {"file": ("list.csv", b"Mail\na@x.org\nno\n")}
        form = {"format": "customers", "map": "Mail=Email"}
        sent = await web.http.post("/api/v1/imports", headers=key.headers, files=files, data=form)
        assert sent.status_code == 202, sent.text
        address = sent.headers["location"]

        async def found() -> Any:
            return (await web.http.get(address, headers=key.headers)).json()

        async def ready() -> bool:
            return bool((await found())["state"] == "ready")

        await until(ready)
        (report,) = (await found())["report"]
        assert (report["new"], report["refused"]) == (1, 1)
        assert report["firstRecords"][0]["email"] == "a@x.org"
        assert (await found())["options"] == {"format": "customers", "mapping": ["Mail=Email"]}
        again = await web.http.post(
            f"{address}/preview", headers=key.headers, json={"mapping": ["Mail=Email"]}
        )
        assert again.status_code == 202
        await until(ready)
        assert (await web.http.post(f"{address}/apply", headers=key.headers)).status_code == 202

        async def done() -> bool:
            return bool((await found())["state"] == "done")

        await until(done)
        listed = (await web.http.get("/api/v1/imports", headers=key.headers)).json()
        assert listed["total"] == 1
        assert listed["items"][0]["begunBy"] == "nightly"
        assert listed["items"][0]["report"] is None
        refused = await web.http.get(f"{address}/refused.csv", headers=key.headers)
        assert "is not an e-mail address" in refused.text
        gone = await web.http.delete(address, headers=key.headers)
        assert_problem(gone, 409)
    assert await emails(empty_service) == ["a@x.org"]
