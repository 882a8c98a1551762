"""Scenes on a service whose invariants are not checked: the tests lose entries on purpose."""

import pytest

from tests.conftest import Service
from tests.integration.streams.scene import Scene


@pytest.fixture
async def scene(empty_service: Service) -> Scene:
    """Return a scene with a group that has been checked once."""
    scene = Scene(empty_service)
    await scene.begin()
    return scene
