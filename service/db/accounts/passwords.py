"""Passwords, hashed with Argon2id."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 12, 1024
"""Characters. Whoever sends a megabyte must not keep the hash busy."""

_hasher = PasswordHasher()
# Each hash takes 64 MiB and tens of milliseconds: not many at once, and not in the event loop.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
_nobodys = _hasher.hash("the password of users who do not exist")


class PasswordError(ValueError):
    """The password cannot be used; the message says why."""


async def hash_password(password: str) -> str:
    """Hash it with the current parameters. Raises PasswordError when it is too short or long."""
    if not SHORTEST <= len(password) <= LONGEST:
        msg = f"a password has {SHORTEST} to {LONGEST:,} characters, this one {len(password):,}"
        raise PasswordError(msg)
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def matches(password: str, password_hash: str | None) -> bool:
    """Compare; without a hash it takes as long, and is False."""
    compared = await asyncio.get_running_loop().run_in_executor(
        _threads, _verify, password[:LONGEST], password_hash or _nobodys
    )
    return compared and password_hash is not None and len(password) <= LONGEST


def outdated(password_hash: str) -> bool:
    """Tell whether a hash was made with other parameters than the current ones."""
    return _hasher.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
