"""A data folder in which the database exists: copying it is faster than creating one."""

import asyncio
import shutil
from pathlib import Path

import pytest

from service.local.stack import LocalStack


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a data folder that was used once and stopped in order."""
    folder = tmp_path_factory.mktemp("template") / "data"

    async def make() -> None:
        async with LocalStack(folder):
            pass

    # In its own event loop, because the fixture outlives that of every test.
    asyncio.run(make())
    (folder / "ports.json").unlink()  # each copy chooses its own
    return folder


@pytest.fixture
def data_dir(template: Path, tmp_path: Path) -> Path:
    """Copy the data folder for one test."""
    folder = tmp_path / "data"
    shutil.copytree(template, folder)
    return folder
