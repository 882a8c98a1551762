"""What the URL and the secret of an endpoint may be."""

import base64

import pytest

from service.core.endpoints import (
    BadSecretError,
    BadUrlError,
    Target,
    checked_secret,
    make_secret,
    target_of,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example/hook?token=1", Target("shop.example", 443, is_plain=False)),
        ("HTTPS://Shop.Example:8443", Target("shop.example", 8443, is_plain=False)),
        ("https://[2606:4700::1]/x", Target("2606:4700::1", 443, is_plain=False)),
    ],
)
def test_a_url_leads_to_a_host(url: str, expected: Target) -> None:
    assert target_of(url, allow_private=False) == expected


def test_plain_http_is_for_private_networks() -> None:
    with pytest.raises(BadUrlError, match="must begin with https"):
        target_of("http://analytics:8000/", allow_private=False)
    expected = Target("analytics", 8000, is_plain=True)
    assert target_of("http://analytics:8000/", allow_private=True) == expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://shop.example/", "must begin with https"),
        ("shop.example/hook", "must begin with https"),
        ("https:///hook", "names no host"),
        ("https://user:secret@shop.example/", "user name"),
        ("https://shop.example/#part", "after #"),
        ("https://shop.example:99999/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://shop.example/a b", "without blanks"),
        ("https://shop.example/\r\nx-header: 1", "without blanks"),
        ("https://shop.example\\@10.0.0.1/", "backslashes"),
        ("https://bücher.example/", "ASCII"),
        (f"https://shop.example/{'x' * 2000}", "longer"),
    ],
)
def test_other_urls_are_refused_with_a_reason(url: str, why: str) -> None:
    with pytest.raises(BadUrlError, match=why):
        target_of(url, allow_private=True)


def test_a_made_secret_is_one_that_may_be_given() -> None:
    made = make_secret()
    assert checked_secret(f" {made}\n") == made != make_secret()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_not base64",
        base64.b64encode(b"x" * 32).decode(),
        f"whsec_{base64.b64encode(b'x' * 23).decode()}",
        f"whsec_{base64.b64encode(b'x' * 65).decode()}",
    ],
)
def test_other_secrets_are_refused(text: str) -> None:
    with pytest.raises(BadSecretError, match="24 to 64 random bytes"):
        checked_secret(text)
