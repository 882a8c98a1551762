"""Hash and check passwords with Argon2id."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 12, 1024
"""Characters. Longer texts are refused, because hashing a megabyte would block others."""

_hasher = PasswordHasher()
# A hash takes 64 MiB and tens of milliseconds, so few run at once, and not in the event loop.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
_unknown_users_hash = _hasher.hash("the password of users who do not exist")


class PasswordError(ValueError):
    """The password cannot be used; the message says why."""


async def hash_password(password: str) -> str:
    """Return the hash of a password. Raises PasswordError if it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        msg = f"a password has {SHORTEST} to {LONGEST:,} characters, this one has {len(password):,}"
        raise PasswordError(msg)
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def matches(password: str, password_hash: str | None) -> bool:
    """Return True if the password has this hash.

    Without a hash the answer is False, after the same time, because the time must not show whether
    a user exists.
    """
    compared = await asyncio.get_running_loop().run_in_executor(
        _threads, _verify, password[:LONGEST], password_hash or _unknown_users_hash
    )
    return compared and password_hash is not None and len(password) <= LONGEST


def outdated(password_hash: str) -> bool:
    """Return True if a hash was made with other parameters than the current ones."""
    return _hasher.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
