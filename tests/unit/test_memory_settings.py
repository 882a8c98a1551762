"""The embedded PostgreSQL gets a share of the memory that there is."""

from pathlib import Path

import pytest

from service.local.memory import memory_limit
from service.local.postgres import memory_settings

_GIBIBYTE = 2**30


@pytest.mark.parametrize(
    ("memory", "buffers", "cache"),
    [
        (_GIBIBYTE, "256MB", "1024MB"),
        (8 * _GIBIBYTE, "1024MB", "4096MB"),
        (256 * _GIBIBYTE, "4096MB", "131072MB"),
    ],
)
def test_settings_follow_from_the_memory(memory: int, buffers: str, cache: str) -> None:
    assert memory_settings(memory) == {"shared_buffers": buffers, "effective_cache_size": cache}


def test_the_memory_is_that_of_the_machine_or_of_the_container(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    machine = memory_limit(limit)
    assert machine > _GIBIBYTE // 4
    for written, memory in (("max\n", machine), ("123456789\n", 123456789), (f"{2**70}", machine)):
        limit.write_text(written)
        assert memory_limit(limit) == memory
