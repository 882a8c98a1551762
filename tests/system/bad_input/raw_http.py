"""Raw bytes that a client may send instead of HTTP, by name, grouped by what the server does."""

_HOST = b"Host: localhost\r\n"
_GET = b"GET /api/v1/statistics HTTP/1.1\r\n" + _HOST
_POST = b"POST /api/v1/customers HTTP/1.1\r\nContent-Type: application/json\r\n" + _HOST
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_ENDLESS = b"a" * 1_000_000

REFUSED: dict[str, bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "zeros": bytes(1000),
    "an unknown method": b"BREW /api/v1/statistics HTTP/1.1\r\n" + _HOST + b"\r\n",
    "no path": b"GET  HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a path that is not ASCII": b"GET /\xff HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a path too long": b"GET /" + _ENDLESS + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
    "an unknown version": b"GET / HTTP/7.3\r\n" + _HOST + b"\r\n",
    "NUL in a header": _GET + b"X-Api-Key: a\x00b\r\n\r\n",
    "a header's name with a space": _GET + b"X Api Key: a\r\n\r\n",
    "a lone CR in a header": _GET + b"X-Request-ID: a\rb\r\n\r\n",
    "a folded header": _GET + b"X-Request-ID: a\r\n b\r\n\r\n",
    "a header without end": _GET + b"X-A: " + _ENDLESS,
    "headers without end": _GET + b"X-A: aaaaaaaaaaaaaaaaaaaa\r\n" * 50_000,
    "a negative length": _POST + b"Content-Length: -1\r\n\r\n{}",
    "a length in words": _POST + b"Content-Length: two\r\n\r\n{}",
    "an enormous length": _POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "two lengths": _POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length and chunks": _POST + b"Content-Length: 2\r\n" + _CHUNKED[len(_POST) :] + b"0\r\n\r\n",
    "a chunk of no size": _CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk larger than said": _CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "an unknown coding": _POST + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a length too large": _POST + b"Connection: close\r\nContent-Length: 1048577\r\n\r\n",
    "chunks too large": _POST
    + b"Connection: close\r\n"
    + _CHUNKED[len(_POST) :]
    + b"10000\r\n"
    + b" " * 0x10000
    + (b"\r\n10000\r\n" + b" " * 0x10000) * 16,
}
"""The server refuses these at once."""

UNFINISHED: dict[str, bytes] = {
    "no head": b"GET / HTTP/1.1\r\nHost: local",
    "a head after an empty line": b"\r\n\r\nGET / HTT",
    "no body": _POST + b"Content-Length: 100\r\n\r\n",
    "half a body": _POST + b'Content-Length: 100\r\n\r\n{"name": "',
    "no last chunk": _CHUNKED + b"2\r\n{}\r\n",
    "a chunk shorter than said": _CHUNKED + b"ff\r\n{}",
    "an enormous chunk": _CHUNKED + b"ffffffffffffffff\r\n{}",
}
"""The server waits for the rest, then gives up."""

ANSWERED: dict[str, bytes] = {
    "a second head": _GET + b"\r\nGET /livez HTTP/1.1\r\nHost",
    "a body after the answer": b"GET /nothing HTTP/1.1\r\nContent-Length: 100\r\n"
    + _HOST
    + b"\r\nx",
}
"""The server answers the first request, then hangs up."""

SILENT: dict[str, bytes] = {"nothing": b"", "empty lines": b"\r\n\r\n"}
"""The server hangs up after a while, without an answer."""
