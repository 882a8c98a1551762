"""The faults by name. Each injects itself, checks that it has an effect, and clears itself."""

from tests.system.chaos.faults import (
    endpoints,
    load,
    memory,
    network,
    postgres,
    redis,
    strangers,
    worker,
)
from tests.system.chaos.faults.registry import FAULTS

__all__ = [
    "FAULTS",
    "endpoints",
    "load",
    "memory",
    "network",
    "postgres",
    "redis",
    "strangers",
    "worker",
]
