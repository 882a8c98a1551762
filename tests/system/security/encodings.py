"""The ways in which a text may stand in a dump, and a search for it in all of them."""

import base64
import html
import json
from collections.abc import Iterator
from urllib.parse import quote


def spellings(word: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each encoding, and bytes that stand wherever it encodes the word.

    Encodings that know no upper and lower case yield lower case; `found` compares without case.
    """
    yield "plain", word.encode()
    yield "JSON", "".join(f"\\u{unit}" for unit in _utf16_units(word)).encode()
    yield "JSON in JSON", json.dumps(json.dumps(f"x{word}x"))[4:-4].strip("\\").encode()
    yield "percent", quote(word).encode()
    yield "percent, all of it", "".join(f"%{byte:02x}" for byte in word.encode()).encode()
    yield "HTML", html.escape(word).encode()
    yield "HTML, by number", "".join(f"&#{ord(character)};" for character in word).encode()
    yield "hex", word.encode().hex().encode()
    yield "UTF-16, little end", word.encode("utf-16-le")
    yield "UTF-16, big end", word.encode("utf-16-be")


def base64_spellings(word: str) -> Iterator[tuple[str, bytes]]:
    """Yield what base64 makes of a word at each of the three places that it may begin at."""
    for start in range(3):
        whole = base64.b64encode(b"\0" * start + word.encode())
        # The first and the last digits depend on what is before and after the word.
        first = 0 if start == 0 else 4
        last = len(whole) - (4 if whole.endswith(b"=") else 0)
        yield f"base64 at {start}", whole[first:last]


def found(word: str, content: bytes) -> list[str]:
    """Return the encodings in which a word stands in bytes, in upper or lower case."""
    folded = content.lower()
    hits = [name for name, spelled in spellings(word) if spelled.lower() in folded]
    cased = {word, word.lower(), word.upper()}
    hits += [
        name
        for each in sorted(cased)
        for name, spelled in base64_spellings(each)
        if spelled in content
    ]
    return hits


def _utf16_units(word: str) -> Iterator[str]:
    encoded = word.encode("utf-16-be").hex()
    return (encoded[place : place + 4] for place in range(0, len(encoded), 4))
