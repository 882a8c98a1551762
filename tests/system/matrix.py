"""A part of the suite on each further Python that is supported: ``make matrix``.

Each gets an environment of its own from the same pins, which so are known to be installable there.
A Python that is not on this machine is skipped, and that is said.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.paths import ROOT

VERSIONS: Final = ("3.12", "3.13")
PINS: Final = ROOT / "requirements-dev.txt"
PROJECT: Final = ROOT / "pyproject.toml"
# What a Python may change: its own objects, what is compiled, event loop, processes and signals.
# What PostgreSQL does is the same for all of them.
TESTS: Final = (
    "tests/unit/core",
    "tests/integration/http",
    "tests/integration/ingest/test_apply.py",
    "tests/integration/ingest/test_order_event.py",
    "tests/integration/segments/test_rules_sql.py",
    "tests/integration/worker/test_wire.py",
    "tests/system/deploy/test_metrics.py::test_a_worker_tells_the_same_on_its_own_port",
)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def find(version: str) -> Path | None:
    """Find a Python of that version: on the path, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    found = [Path(on_path)] if on_path else []
    found += sorted(pyenv.glob(f"versions/{version}.*/bin/python"), key=_patch, reverse=True)
    for python in found:  # one on the path may lead nowhere
        says = _run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        if says.stdout.strip() == version:
            return python
    return None


def _patch(python: Path) -> int:
    """Return the third number of the version in a path of pyenv's; 0 for one like `3.13-dev`."""
    number = python.parts[-3].rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def install(python: Path, folder: Path) -> str:
    """Make an environment with what is pinned, unless it is there. Gives what is wrong, or ''."""
    pins = hashlib.sha256(PINS.read_bytes() + PROJECT.read_bytes()).hexdigest()
    stamp = folder / "pins"
    if stamp.exists() and stamp.read_text() == pins:
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    pip: Sequence[str | Path] = (sys.executable, "-m", "pip", "--python", folder / "bin/python")
    # What is pinned whole need not be resolved, `check` says if it is not; nor compiled unused.
    into = (*pip, "install", "-qq", "--disable-pip-version-check", "--no-deps", "--no-compile")
    for command in (
        (python, "-m", "venv", "--without-pip", folder),
        (*into, "--require-hashes", "-r", PINS),
        (*into, "--no-build-isolation", "-e", ROOT),
        (*pip, "check"),
    ):
        if (done := _run(*command)).returncode:
            return done.stdout
    stamp.write_text(pins)
    return ""


def passes(version: str) -> bool:
    """Run the tests on that Python and say how they went; without one here, nothing fails."""
    python = find(version)
    if python is None:
        sys.stdout.write(f"Python {version}: skipped, there is none here\n")
        return True
    folder = ROOT / ".venv/matrix" / version
    began = time.monotonic()
    if wrong := install(python, folder):
        sys.stdout.write(f"Python {version}: what is pinned cannot be installed\n{wrong}\n")
        return False
    took = time.monotonic() - began
    tests = _run(folder / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    told = tests.stdout.strip()
    if not tests.returncode:
        told = told.rpartition("\n")[2]
    sys.stdout.write(f"Python {version}: {told}; installed in {took:.0f} s\n")
    return not tests.returncode


def main() -> None:
    """Test them all at the same time; exit status 1 when one fails."""
    with ThreadPoolExecutor() as pool:
        passed = list(pool.map(passes, VERSIONS))
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
