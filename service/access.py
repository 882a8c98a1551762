"""Who may do what: scopes, and the actor on whose behalf something is done."""

from enum import StrEnum
from typing import NamedTuple


class Scope(StrEnum):
    """What a credential allows. Each is given by itself; admin does not imply the others."""

    READ = "read"
    WRITE = "write"
    EXPORT = "export"
    ADMIN = "admin"


class Actor(NamedTuple):
    """Whose name stands in the audit, and what they may do."""

    name: str
    scopes: frozenset[Scope]


LOCAL = Actor("local", frozenset(Scope))
"""Whoever is on this machine, while no credential has been created."""
