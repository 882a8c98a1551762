"""Read bytes as text in every way in which a publisher may have written it.

A document may be JSON within JSON, a form, a link or an attachment. `readings` removes these layers
one after the other. The work is bounded, because anybody may have written the bytes.
"""

import base64
import html
import re
from collections.abc import Iterator
from urllib.parse import unquote

_ROUNDS = 4
"""How many layers of one kind are removed."""
_MOST_GROWTH = 6
"""The readings of a text are this many times as long as the text, at most, all together."""
_FEWEST_TEXT = 10
"""If more than one character in ten is no UTF-8, the bytes are no text in Latin-1 either."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ENDLESS = re.compile(r"&#\d{20,}+;?")
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "0": "\x00"}
_RUN = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
"""What may be base64."""
_SHORTEST = 8
_WRAPPED = re.compile(r"(?<=[A-Za-z0-9+/]{60})\r?\n(?=[A-Za-z0-9+/])")
"""A line break within base64, as in e-mails."""


def readings(content: bytes) -> Iterator[str]:
    """Yield content as text, then with its layers removed: escapes, ``%40``, ``&amp;``, base64.

    Layers in one another are removed as well, up to a bound. Bytes that are no text are replaced.
    """
    text = content.decode(errors="replace")
    if 0 < text.count("\ufffd") * _FEWEST_TEXT <= len(text):
        yield content.decode("latin-1")
    left = _MOST_GROWTH * len(text) + 10_000
    for reading in _layers(text, _ROUNDS):
        yield reading
        left -= len(reading)
        if left < 0:
            return


def _layers(text: str, rounds: int) -> Iterator[str]:
    yield text
    for remaining in reversed(range(rounds)):
        before = text
        for decode in (_unescaped, unquote, _from_html):
            decoded = decode(text)
            if decoded != text:
                text = decoded
                yield text
        changed = text != before
        if (changed or remaining == rounds - 1) and (inner := _base64_texts(text)):
            yield from _layers(inner, remaining)
        if not changed:
            return


def _unescaped(text: str) -> str:
    """Return text without one level of JSON's and JavaScript's escapes."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_character, text)
    if any("\ud800" <= character <= "\udfff" for character in plain):
        # JSON writes a character beyond U+FFFF as two escapes.
        plain = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return plain


def _from_html(text: str) -> str:
    # Python refuses to read a number of several thousand digits.
    return html.unescape(_ENDLESS.sub("", text)) if "&" in text else text


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _CONTROL.get(escape[3], escape[3])


def _base64_texts(text: str) -> str:
    """Return the texts that stand in base64 within a text, one a line."""
    text = _WRAPPED.sub("", text)
    runs = dict.fromkeys(run for match in _RUN.findall(text) for run in _candidates(match))
    return "\n".join(filter(None, map(_from_base64, runs)))


def _candidates(run: str) -> Iterator[str]:
    """Yield the parts of a run that may be base64 of a text.

    A ``/`` or ``_`` may belong to it or, as in a path, end it. Base64 of a text has letters of both
    cases, nearly always.
    """
    for separators in ("", "_-", "+/", "+/_-"):
        if separators and not any(each in run for each in separators):
            continue
        for part in re.split(f"[{separators}]", run) if separators else [run]:
            if len(part) >= _SHORTEST and not (part.islower() or part.isupper() or part.isdigit()):
                yield part


def _from_base64(run: str) -> str | None:
    """Return the text of a run of base64; None if it is no text. The run may be cut short."""
    digits = run.rstrip("=").replace("-", "+").replace("_", "/")
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    decoded = base64.b64decode(digits + "=" * (-len(digits) % 4))
    try:
        text = decoded.decode()
    except UnicodeDecodeError as error:
        if error.start < len(decoded) - 3:
            return None
        text = decoded[: error.start].decode()  # the end of the run is missing
    readable = text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    return text if readable else None
