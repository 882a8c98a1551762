"""Permissions: the scopes of a credential, the roles of users, and the actor of a request."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Scope(StrEnum):
    """A permission of a credential. Each is granted separately; admin does not include others."""

    READ = "read"
    WRITE = "write"
    EXPORT = "export"
    ERASE = "erase"
    """Erase people for good. It is apart from `WRITE`, because nobody can undo it."""
    ADMIN = "admin"


class Role(StrEnum):
    """The role of a dashboard user; it decides which scopes they have."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.EDITOR: frozenset({Scope.READ, Scope.WRITE, Scope.EXPORT}),
    Role.ADMIN: frozenset(Scope),
}


class Actor(NamedTuple):
    """The person or program in whose name something is done, and what they may do.

    ``name`` goes into the audit log. ``ref`` goes into log lines, which must not contain names.
    """

    name: str
    scopes: frozenset[Scope]
    ref: str = "local"


LOCAL = Actor("local", frozenset(Scope))
"""Anyone on this machine, as long as no credential has been created."""
