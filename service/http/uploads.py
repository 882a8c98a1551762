"""A form with one file, read piece by piece, so that memory stays flat whatever the file's size."""

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.http.body_limits import FORM_AROUND_FILE_BYTES, MOST_FIELDS
from service.http.problems import ProblemError, invalid

KIND = "multipart/form-data"
_LONGEST_NAME = 200
_LONGEST_BOUNDARY = 70
"""As RFC 2046 has it. A longer one is then not found."""


class Upload:
    """A form that is arriving: its fields so far, and its file."""

    def __init__(self, request: Request) -> None:
        """Create it; nothing is read yet. Raises a problem for a form of another kind."""
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary")
        if kind.decode("latin-1") != KIND or not boundary:
            raise ProblemError(415, "Not a form with a file", f"Send the form as `{KIND}`.")
        self.fields: dict[str, list[str]] = {}
        """The values of each field. After the file has been read, also those that follow it."""
        self.file_name = ""
        self._stream = request.stream()
        self._parser = MultipartParser(
            boundary[:_LONGEST_BOUNDARY],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )
        self._pieces: deque[bytes] = deque()
        self._field = bytearray()
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._name = ""
        self._in_file = False
        self._around, self._files, self._complete = 0, 0, False

    @classmethod
    async def opened(cls, request: Request) -> Self:
        """Return the form, read as far as its file begins."""
        upload = cls(request)
        while not upload._files and await upload._more():
            pass
        return upload

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the file. Raises a problem if the form is cut off, or has a second file."""
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if not await self._more():
                break
        if not self._complete:
            raise invalid("body", "is cut off; send the file again")

    def text(self, name: str) -> str:
        """Return the last value of a field; empty if there is none."""
        return self.fields.get(name, [""])[-1].strip()

    async def _more(self) -> bool:
        """Read the next piece of the body. Return False at its end."""
        async for chunk in self._stream:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise invalid("body", f"is not a form with a file: {error}") from None
            return True
        return False

    def _begin(self) -> None:
        self._header, self._disposition = (bytearray(), bytearray()), b""
        self._field.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header[1].extend(data[start:end])

    def _header_end(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        file_name = options.get(b"filename")
        self._in_file = file_name is not None
        if file_name is not None:
            self._files += 1
            if self._files > 1:
                raise invalid(self._name, "is a second file; send one file at a time")
            self.file_name = _plain_name(file_name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
        else:
            self._count(end - start)
            self._field.extend(data[start:end])

    def _part_end(self) -> None:
        if self._in_file:
            return
        try:
            text = self._field.decode()
        except UnicodeDecodeError:
            raise invalid(self._name, "must be text in UTF-8") from None
        if "\0" in text:
            raise invalid(self._name, "must be text without NUL")
        self.fields.setdefault(self._name, []).append(text)
        if sum(map(len, self.fields.values())) > MOST_FIELDS:
            raise invalid("body", f"has more than {MOST_FIELDS} fields")

    def _end(self) -> None:
        self._complete = True

    def _count(self, size: int) -> None:
        self._around += size
        if self._around > FORM_AROUND_FILE_BYTES:
            detail = f"has fields of more than {FORM_AROUND_FILE_BYTES:,} bytes beside the file"
            raise invalid("body", detail)


def _plain_name(sent: bytes) -> str:
    """Return a file's name without folders and signs that cannot be printed."""
    name = sent.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    # The end is kept, because it says what kind of file it is.
    return "".join(char for char in name if char.isprintable()).strip()[-_LONGEST_NAME:]
