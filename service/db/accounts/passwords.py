"""Hash and check passwords with Argon2id."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 12, 1024
"""Characters. Longer texts are refused, because hashing a megabyte would block others."""

AT_ONCE = 2
"""How many passwords are hashed at the same time. Each takes 64 MiB and tens of milliseconds."""

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="argon2")
"""Hashing would block the event loop for tens of milliseconds, so it runs here."""


class PasswordError(ValueError):
    """The password cannot be used; the message says why."""


async def hash_password(password: str) -> str:
    """Return the hash of a password. Raises PasswordError if it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        msg = f"a password has {SHORTEST} to {LONGEST:,} characters, this one has {len(password):,}"
        raise PasswordError(msg)
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def matches(password: str, password_hash: str | None) -> bool:
    """Return True if the password has this hash; False if there is no hash.

    Both take the same time. Otherwise an attacker could measure which users exist.
    """
    loop = asyncio.get_running_loop()
    # The first call of the process hashes, whether the user exists or not: a first refusal that
    # takes longer for unknown users would tell them apart.
    stand_in = await loop.run_in_executor(_threads, _stand_in_hash)
    compared = await loop.run_in_executor(
        _threads, _verify, password[:LONGEST], password_hash or stand_in
    )
    return compared and password_hash is not None and len(password) <= LONGEST


def outdated(password_hash: str) -> bool:
    """Return True if a hash was made with other parameters than the current ones."""
    return _hasher.check_needs_rehash(password_hash)


@cache
def _stand_in_hash() -> str:
    """Return the hash that the password of an unknown user is compared with.

    It is made at the first sign-in, not at import, because every command imports this module.
    """
    return _hasher.hash("the password of users who do not exist")


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
