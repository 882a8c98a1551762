"""A data folder whose database exists already: making one takes a second, copying it does not."""

import asyncio
import shutil
from pathlib import Path

import pytest

from service.local.stack import LocalStack


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data folder that was used once and stopped in order."""
    folder = tmp_path_factory.mktemp("template") / "data"

    async def make() -> None:
        async with LocalStack(folder):
            pass

    # In a loop of its own, for the fixture outlives every test's.
    asyncio.run(make())
    (folder / "ports.json").unlink()  # copies choose their own
    return folder


@pytest.fixture
def data_dir(template: Path, tmp_path: Path) -> Path:
    """Copy it for one test."""
    folder = tmp_path / "data"
    shutil.copytree(template, folder)
    return folder
