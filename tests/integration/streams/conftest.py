"""Scenes; what they lose on purpose would break the invariants."""

import pytest

from tests.conftest import Service
from tests.integration.streams.scene import Scene


@pytest.fixture
async def scene(empty_service: Service) -> Scene:
    """Give a scene with a group that has been looked at."""
    scene = Scene(empty_service)
    await scene.begin()
    return scene
