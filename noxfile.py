"""Run a part of the tests on each further Python that is supported: ``make matrix``.

Each Python gets an environment of its own from the same pins, which shows that they can be
installed there. nox skips a Python that this machine does not have, and says so.
"""

import hashlib
import os
import shutil
from pathlib import Path

import nox

PYTHONS = ("3.12", "3.13")
# Another Python brings its own objects, compiled packages, event loop, processes and signals.
# PostgreSQL does the same for all of them.
TESTS = (
    "tests/unit/core",
    "tests/integration/http/test_health_and_metrics.py",
    "tests/integration/db/statistics/test_key_figures.py",
    "tests/integration/db/ingest/test_apply.py",
    "tests/integration/db/ingest/test_order_event.py",
    "tests/integration/db/segments/test_rules_sql.py",
    "tests/integration/worker/test_wire.py",
    "tests/system/deploy/test_metrics.py::test_a_worker_serves_metrics_on_its_own_port",
)

# An environment is used again while the pins are the same. Outdated ones are removed: a package
# left in them would hide that its pin is missing.
pins = Path("requirements-dev.txt").read_bytes() + Path("pyproject.toml").read_bytes()
environments = Path(".venv/matrix", hashlib.sha256(pins).hexdigest()[:12])
for outdated in {*environments.parent.glob("*")} - {environments}:
    shutil.rmtree(outdated)

nox.needs_version = ">=2026.10.20"  # sessions in parallel
nox.options.envdir = str(environments)
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
# pyenv's own `python3.12` on the path works only while that version is switched on.
pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
installed = [str(folder) for python in PYTHONS for folder in pyenv.glob(f"versions/{python}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*installed, os.environ["PATH"]])


@nox.session(python=PYTHONS, venv_backend="venv", allow_parallel=True)
def matrix(session: nox.Session) -> None:
    """Install the pins and run the tests."""
    # The pins are complete, so pip need not resolve them; `check` fails if they are not.
    into = ("--no-deps", "--no-compile", "--disable-pip-version-check")
    session.install(*into, "--require-hashes", "-r", "requirements-dev.txt")
    session.install(*into, "--no-build-isolation", "-e", ".")
    session.run("python", "-m", "pip", "check", silent=True)
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
