"""Requests that were made to cost the service much: each fits into what a stranger may send."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

CUSTOMERS = "/api/v1/customers"
JSON = {"Content-Type": "application/json"}
_FORM = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "text/html",
    "Sec-Fetch-Site": "same-origin",
}
_PARTS = {**_FORM, "Content-Type": "multipart/form-data; boundary=x"}
_PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


class Hostile(NamedTuple):
    """A request, without the host."""

    method: str
    address: str
    content: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


def _post(content: bytes, address: str = CUSTOMERS) -> Hostile:
    return Hostile("POST", address, content, JSON)


def _form(content: bytes, address: str = "/sign-in", headers: dict[str, str] = _FORM) -> Hostile:
    return Hostile("POST", address, content, headers)


def _get(address: str, **headers: str) -> Hostile:
    return Hostile("GET", address, b"", headers)


def _keys(number: int) -> bytes:
    return json.dumps({f"k{n}": n for n in range(number)}).encode()


HOSTILE: dict[str, Hostile] = {
    "400 unknown keys": _post(_keys(400)),
    "20,000 unknown keys": _post(_keys(20_000)),
    "80,000 unknown keys": _post(_keys(80_000)),
    "20,000 unknown keys and NaN": _post(b'{"a": NaN, ' + _keys(20_000)[1:]),
    "20,000 unknown keys in a search": _post(_keys(20_000), f"{CUSTOMERS}/search"),
    "5,000 unknown keys in a search": _post(_keys(5_000), f"{CUSTOMERS}/search"),
    "9,000 wrong segments": _post(
        b'{"segment": [' + b",".join([b'"x"'] * 9_000) + b"]}", f"{CUSTOMERS}/search"
    ),
    "a key 40,000 times": _post(b"{" + b",".join([b'"a":1'] * 40_000) + b"}"),
    "a very long key": _post(b'{"' + b"k" * 250_000 + b'": 1}'),
    "nested": _post(b'{"address":' * 900 + b"1" + b"}" * 900),
    "nested deep": _post(b"[" * 60_000),
    "nested deep and closed": _post(b'{"address":' * 20_000 + b"1" + b"}" * 20_000),
    "long integers": _post(b"[" + b",".join([b"9" * 4_200] * 60) + b"]"),
    "an e-mail of dots": _post(b'{"name": "a", "email": "a@' + b"a." * 120_000 + b'"}'),
    "an e-mail of at signs": _post(b'{"name": "a", "email": "' + b"a@" * 120_000 + b'"}'),
    "a name of blanks": _post(b'{"email": "a@x.org", "name": "' + b" " * 250_000 + b'"}'),
    "a small exponent": Hostile(
        "PUT", "/api/v1/settings", b'{"vipTotalSpent": "1e-999999999"}', JSON
    ),
    "a small exponent in the address": _get(f"{CUSTOMERS}?spentFrom=1e-999999999"),
    "a number of 15,000 digits": _get(f"{CUSTOMERS}?limit={'9' * 15_000}"),
    "80,000 parameters": _get(f"{CUSTOMERS}?{'a=b&' * 80_000}"),
    "80,000 segments": _get(f"{CUSTOMERS}?{'segment=x&' * 80_000}"),
    "1,500 segments": _get(f"{CUSTOMERS}?{'segment=x&' * 1_500}"),
    "an address of escapes": _get(f"{CUSTOMERS}?a={'%41' * 80_000}"),
    "a long path": _get(f"/{'a/' * 100_000}"),
    "a list of tags": Hostile(
        "PATCH", f"{CUSTOMERS}/CUST-1", b"{}", {**JSON, "If-Match": '"a",' * 15_000}
    ),
    "a cookie of backslashes": _get("/sign-in", Cookie=f'crm-session="{chr(92) * 60_000}"'),
    "a shorter cookie of backslashes": _get("/sign-in", Cookie=f'crm-session="{chr(92) * 8_000}"'),
    "many cookies": _get("/sign-in", Cookie="a=b;" * 16_000),
    "many languages": _get("/sign-in", **{"Accept-Language": "a," * 30_000}),
    "many options of a type": Hostile(
        "POST", CUSTOMERS, b"{}", {"Content-Type": "application/json;" + "a=b;" * 15_000}
    ),
    "two types": Hostile("POST", CUSTOMERS, _keys(20_000), {**JSON, "content-type": "text/plain"}),
    "many options of a form": _form(
        b"a=b", headers={**_FORM, "Content-Type": _FORM["Content-Type"] + ";a=b" * 15_000}
    ),
    "60,000 headers": _get("/livez", **{f"X-{n}": "" for n in range(60_000)}),
    "a form of 32,000 fields": _form(b"a&" * 32_000),
    "a form of empty fields": _form(b"&" * 65_000),
    "a form of percent signs": _form(b"email=" + b"%" * 65_000),
    "a long form of percent signs": _form(b"notes=" + b"%" * 500_000, "/customers/new"),
    "a form of escapes": _form(b"notes=" + b"%41" * 170_000, "/customers/new"),
    "a deep state of a form": _form(b"was=" + b"[" * 500_000, "/customers/CUST-1/edit"),
    "a form of 1,200 parts": _form(_PART * 1_200, headers=_PARTS),
    "a form of 10,000 heads": _form(b"--x\r\n" + b"a: b\r\n" * 10_000, headers=_PARTS),
    "a form of dashes": _form(_PART + b"\r\n--" * 15_000, headers=_PARTS),
}
"""By name."""
