"""Open a file as text: unpack it, and find out its encoding."""

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from service.transfer.reading.record import UnreadableError

UTF_8 = "utf-8-sig"
"""UTF-8, with or without a byte order mark."""

_PIECE = 1 << 20
_SAMPLE = 1 << 17
_ZIP = b"PK\x03\x04"
_GZIP = b"\x1f\x8b"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"
_WORKBOOK_PARTS = {"xl/workbook.xml", "xl/workbook.bin", "content.xml"}
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LIKELY = [
    "cp1252",
    "cp1254",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp874",
    "mac_roman",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
]
"""What spreadsheets write as “CSV” around the world, the most usual one first."""
_NEARLY = 0.01
_TURKISH_IN_1252 = re.compile("[ðþÐÞ]")
"""What ğ, ş, Ğ and Ş of Turkish look like in cp1252. They are letters of Icelandic, too."""


class Opened(NamedTuple):
    """A file that is open as text."""

    text: io.TextIOWrapper
    """Bytes that are not of the encoding are lone surrogates in it."""
    position: Callable[[], int]
    """Returns how many bytes of the file were read so far."""
    guess: str | None
    """A sentence about the encoding, if it was guessed."""


def is_workbook(path: Path) -> bool:
    """Return whether a file is a workbook, such as XLSX."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == _ZIP:
        try:
            with zipfile.ZipFile(path) as archive:
                return not _WORKBOOK_PARTS.isdisjoint(archive.namelist())
        except zipfile.BadZipFile:
            return False
    return head == _OLD_WORKBOOK


@contextmanager
def opened(path: Path, encoding: str | None) -> Iterator[Opened]:
    """Open a file as text. None as encoding: find it out. Raises UnreadableError.

    So does reading an archive that is damaged, as long as the context lasts.
    """
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            stream = stack.enter_context(_unpacked(raw))
            guess = None
            if encoding is None:
                encoding, guess = _encoding(stream)
                stream.seek(0)
            try:
                text = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="")
            except LookupError:
                msg = f"cannot be read: {encoding!r} is no encoding; try utf-8, cp1252 or utf-16"
                raise UnreadableError(msg) from None
            yield Opened(stack.enter_context(text), raw.tell, guess)
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        msg = f"is a damaged archive: {error}; get it again"
        raise UnreadableError(msg) from error
    except UnicodeDecodeError as error:  # only of encodings with several bytes for each letter
        msg = f"cannot be read to its end as {error.encoding} ({error.reason}); get it again"
        raise UnreadableError(msg) from error


@contextmanager
def _unpacked(file: BinaryIO) -> Iterator[BinaryIO]:
    head = file.read(4)
    file.seek(0)
    if not head:
        msg = "is empty"
        raise UnreadableError(msg)
    if head.startswith(_GZIP):
        with gzip.open(file) as unpacked:
            yield cast("BinaryIO", unpacked)
    elif head == _ZIP:
        with zipfile.ZipFile(file) as archive:
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir() and not _is_hidden(member.filename)
            ]
            if len(members) != 1:
                names = ", ".join(member.filename for member in members[:5]) or "none"
                msg = f"holds {len(members)} files ({names}); unpack it and import each of them"
                raise UnreadableError(msg)
            if members[0].flag_bits & 1:
                msg = "is protected by a password; unpack it first"
                raise UnreadableError(msg)
            with archive.open(members[0]) as unpacked:
                yield cast("BinaryIO", unpacked)
    else:
        yield file


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _encoding(stream: BinaryIO) -> tuple[str, str | None]:
    """Return the encoding of a stream, and a sentence about it if it was guessed."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    head = stream.read(_PIECE)
    if head.startswith(_UTF_16_MARKS):
        return "utf-16", "It is UTF-16."
    zeros = head[:_SAMPLE].count(0)
    if zeros > len(head[:_SAMPLE]) // 4:
        encoding = "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
        return encoding, f"It seems to be {encoding.upper()}."
    sample = bytearray()
    valid = invalid = 0
    piece, broken = head, False
    while piece:
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            broken = True
        for line in piece.split(b"\n") if len(sample) < _SAMPLE and not piece.isascii() else ():
            if not line.isascii():
                sample += line[:_SAMPLE] + b"\n"
                try:
                    line.decode()
                    valid += 1
                except UnicodeDecodeError:
                    invalid += 1
        if broken and len(sample) >= _SAMPLE:
            break
        piece = stream.read(_PIECE)
    if not broken or valid >= invalid:
        return UTF_8, None
    return _guessed(bytes(sample[:_SAMPLE]))


def _guessed(sample: bytes) -> tuple[str, str]:
    from charset_normalizer import from_bytes  # noqa: PLC0415 - most files are UTF-8

    matches = from_bytes(sample, cp_isolation=_LIKELY)
    best = matches.best()
    # In a short text, several encodings fit equally well. Then the more usual one is right.
    equal = {
        match.encoding
        for match in matches
        if best
        and match.chaos <= best.chaos + _NEARLY
        and match.coherence >= best.coherence - _NEARLY
    }
    encoding = next((each for each in _LIKELY if each in equal), "cp1252")
    if encoding == "cp1252" and _TURKISH_IN_1252.search(sample.decode("cp1252", "replace")):
        encoding = "cp1254"
    words = sample.decode(encoding, "replace").replace(",", " ").replace(";", " ").split()
    shown = next((word.strip('"')[:30] for word in words if not word.isascii()), "")
    return encoding, (
        f"It is not UTF-8. It was read as {encoding}, guessed from its letters: “{shown}”. If names"
        " look wrong, name the encoding, as in --encoding cp1254."
    )
