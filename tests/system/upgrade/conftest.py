"""Servers for these tests alone, because their schema differs from that of all other tests."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.local.stack import LocalStack
from tests.paths import ROOT
from tests.servers import Servers

PREVIOUS = "f90a4a8"
"""There is no release yet, so the commit with schema 0002 takes its place."""


@pytest.fixture
async def own_servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """Yield an empty database and an empty Redis."""
    if os.environ.get("CRM_TEST_DATABASE_URL"):
        pytest.skip("needs servers of its own")
    async with LocalStack(tmp_path / "stack", report=lambda _: None) as stack:
        yield Servers(stack.database_url or "", stack.redis_url or "", None, None)


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the code of the previous release."""
    git = shutil.which("git")
    archive = git and subprocess.run(  # noqa: S603
        [git, "archive", PREVIOUS, "service", "consumers", "migrations"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if not archive or archive.returncode:
        pytest.skip(f"needs the repository's history, back to {PREVIOUS}")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder
