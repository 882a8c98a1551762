"""The checkout has no secret: texts that look like one are reported, except known ones."""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.core.tokens import ApiKey
from tests.paths import ROOT

LARGEST = 1_000_000
_FORMS = {
    "an API key of ours": r"crm_[a-z2-7]{8}_[A-Za-z0-9_-]{43}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY",
    "a cloud key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}\b",
    "a forge's token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bglpat-[\w-]{20}\b",
    "a package registry's token": r"\bpypi-[\w-]{50,}|\bnpm_[A-Za-z0-9]{36}\b",
    "a payment or chat token": r"\b[sr]k_live_\w{20,}|\bxox[abprs]-[\w-]{10,}",
    "a signed token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a password in a URL": r"\b[a-z][a-z0-9+]*://[^\s:/@'\"`{}<>]*:(?P<word>[^\s:/@'\"`{}<>$]+)@",
    "a password": (
        r"(?i)(?:password|passwd|secret|token|api_?key)\w*\W{1,5}(?P<random>[A-Za-z0-9+/_=-]{20,})"
    ),
}
_SECRET = {kind: re.compile(form) for kind, form in _FORMS.items()}
_HARMLESS = {
    "x",
    "p",
    "p%40x",
    "a%2Fb%3Fc%23d",
    "test",
    "password",
    "secret",
    "pw",
    "crm",
    "user",
    "PASSWORD",
} | {
    "…",
    "...",
    "***",
    "change-me",
    "change-me-too",
    *(f"change-me-{number}" for number in range(1, 6)),
}
"""Passwords of servers in examples and tests."""
_RANDOM = 3.6
"""Bits per character above which a text is random, not a word."""
_PINS = re.compile(r"requirements.*\.txt|.*\.lock|package-lock\.json")
"""Files that tools write; they consist of hashes."""


def _bits(word: str) -> float:
    counts = Counter(word).values()
    return -sum(count / len(word) * math.log2(count / len(word)) for count in counts)


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """Return where something looks like a secret: the line's number, and the kind of secret."""
    for number, line in enumerate(text.splitlines(), 1):
        for kind, form in _SECRET.items():
            for match in form.finditer(line):
                found = match.groupdict()
                if found.get("word") in _HARMLESS:
                    continue
                if (random := found.get("random")) and (
                    _bits(random) < _RANDOM or not re.search(r"\d", random)
                ):
                    continue
                yield number, kind


def tracked() -> list[Path]:
    """Return the files that are checked in or would be."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True)  # noqa: S603
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [it for it in files if it.is_file() and not _PINS.fullmatch(it.name)]


def test_no_secret_is_in_the_checkout() -> None:
    files = tracked()
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}:{number}: {kind}"
        for file in files
        if file.stat().st_size <= LARGEST
        for number, kind in secrets_in(file.read_text(errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"KEY={ApiKey.make().reveal()}", id="a key of ours"),
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "aws_access_key_id = AKIA" + "IOSFODNN7EXAMPLE",
        'TOKEN = "ghp_' + "a1B2" * 9 + '"',
        "url: postgresql://crm" + ":s3cr3t@db/crm",
        "redis://:" + "hunter2@localhost",
        'password: "Zm9vYmFy' + 'MTIzNDU2Nzg5MA=="',
        "API_KEY='9f86d081884c" + "7d659a2feaa0c55ad015'",
    ],
)
def test_every_kind_of_secret_is_found(line: str) -> None:
    assert list(secrets_in(f"a\n{line}\n")) != []
