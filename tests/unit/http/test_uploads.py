"""A form with a file is read piece by piece, wherever its pieces end."""

from itertools import pairwise
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from service.http.problems import ProblemError
from service.http.uploads import Upload

CONTENT = b"Email\r\n--not the boundary\r\njane@x.org\r\n"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\ntoken\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="C:\\x\\J\xc3\xb6.csv"\r\n'
    b"Content-Type: text/csv\r\n\r\n" + CONTENT + b"\r\n"
    b'--b\r\nContent-Disposition: form-data; name="map"\r\n\r\nMail=Email\r\n'
    b'--b\r\nContent-Disposition: form-data; name="map"\r\n\r\nTel=Phone\r\n--b--\r\n'
)
_START = FORM.index(CONTENT)
_EMPTY_FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'


def request_of(pieces: list[bytes], kind: str = "multipart/form-data; boundary=b") -> Request:
    """Return a request whose body arrives in these pieces."""
    waiting = [*pieces]

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    headers = [(b"content-type", kind.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def read(pieces: list[bytes]) -> tuple[Upload, bytes]:
    upload = await Upload.opened(request_of(pieces))
    return upload, b"".join([piece async for piece in upload.content()])


@given(st.lists(st.integers(0, len(FORM)), max_size=20))
async def test_it_does_not_matter_where_pieces_end(cuts: list[int]) -> None:
    places = sorted({0, len(FORM), *cuts})
    pieces = [FORM[a:b] for a, b in pairwise(places)]
    upload, content = await read(pieces)
    assert content == CONTENT
    assert upload.file_name == "Jö.csv"
    assert upload.text("csrf") == "token"
    assert upload.fields["map"] == ["Mail=Email", "Tel=Phone"]


async def test_fields_before_the_file_are_known_before_it_arrives() -> None:
    upload = await Upload.opened(request_of([FORM[:_START], FORM[_START:]]))
    assert upload.text("csrf") == "token"
    assert "map" not in upload.fields


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (FORM[:-20], "is cut off"),
        (FORM[:120], "is cut off"),
        (b"nonsense", "is not a form with a file"),
        (FORM.replace(b"; filename", b"; x").replace(CONTENT, b"a\0b"), "without NUL"),
        (FORM.replace(b"; filename", b"; x").replace(CONTENT, b"\xff"), "UTF-8"),
        (FORM.replace(b"token", b"a" * 70_000), "more than 65,536 bytes beside the file"),
        (FORM.replace(b'name="csrf"', b'name="csrf"; filename="b.csv"'), "is a second file"),
        (_EMPTY_FIELD * 201 + FORM, "more than 200 fields"),
    ],
)
async def test_a_bad_form_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await read([body[:100], body[100:]])
    assert told in str(refused.value)
    assert refused.value.problem.status == 422


@pytest.mark.parametrize("kind", ["", "text/csv", "multipart/form-data", "application/json"])
async def test_other_kinds_of_bodies_are_refused(kind: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await Upload.opened(request_of([FORM], kind))
    assert refused.value.problem.status == 415
