"""Look up known vulnerabilities of the pinned packages: ``make audit``. It needs the network.

It is no part of ``make check``: the answer changes without the code, and comes from elsewhere.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.paths import ROOT

PINNED = ROOT / "requirements-dev.txt"
"""Includes the packages that the service runs with."""
FOUND, NOT_ASKED = 1, 3


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Return an exit status and the lines that explain it.

    pip-audit passes packages that it could not look up; we do not.
    """
    packages = report["dependencies"]
    skipped = [it for it in packages if "skip_reason" in it]
    bad = [it for it in packages if it.get("vulns")]
    lines = [
        f"{it['name']} {it['version']}: {fault['id']}; fixed in {fault['fix_versions'] or 'none'}"
        for it in bad
        for fault in it["vulns"]
    ]
    lines += [f"not looked up: {it['name']}: {it['skip_reason']}" for it in skipped[:5]]
    lines.append(
        f"{len(packages) - len(skipped)} of {len(packages)} packages looked up, {len(bad)} of them "
        "with known vulnerabilities."
    )
    if skipped or not packages:
        lines.append("NOT AUDITED: the advisory service did not know or did not answer.")
    return FOUND if bad else NOT_ASKED if skipped or not packages else 0, lines


def main(pip_audit: str) -> int:
    """Run this pip-audit, print the verdict and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off"]
        done = subprocess.run(  # noqa: S603
            [pip_audit, *options, "-r", str(PINNED), "-f", "json", "-o", str(answer)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not answer.exists():
            print(done.stderr.strip()[-500:])  # noqa: T201
        report = json.loads(answer.read_text()) if answer.exists() else {"dependencies": []}
    status, lines = verdict(report)
    print("\n".join(lines))  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
