"""Hash and check passwords with Argon2id, and refuse those that are guessed first."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 12, 1024
"""Characters. Longer texts are refused, because hashing a megabyte would block others."""

AT_ONCE = 2
"""How many passwords are hashed at the same time. Each takes 64 MiB and tens of milliseconds."""

HARDEST_SCORE_REFUSED = 2
"""zxcvbn's scores go from 0 to 4. A password of score 3 takes 10^8 guesses or more. The limits on
failed sign-ins allow somebody with many addresses 43,000 guesses a day for one account. So 10^8
take six years. The 10^6 of score 2 would take three weeks."""

_RATED = 72
"""zxcvbn rates this many characters. More would take seconds, and rate no password differently."""

_OURS = ("recovery", "essentials", "crm")

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="argon2")
"""Hashing would block the event loop for tens of milliseconds, so it runs here."""


class PasswordError(ValueError):
    """The password cannot be used; the message says why."""


async def hash_new_password(password: str, email: str) -> str:
    """Return the hash of a password that a user chose.

    Raises PasswordError if it is too short, too long, or among those that are guessed first.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        msg = f"a password has {SHORTEST} to {LONGEST:,} characters, this one has {len(password):,}"
        raise PasswordError(msg)
    if (why := _why_guessable(password, email)) is not None:
        msg = (
            f"this password is easy to guess{why}. Three or four words that have nothing to do with"
            " each other are hard to guess and easy to remember"
        )
        raise PasswordError(msg)
    return await rehash(password)


async def rehash(password: str) -> str:
    """Return a new hash of a password that is in use already."""
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


def _why_guessable(password: str, email: str) -> str | None:
    """Return the words that follow "easy to guess", perhaps none. None if it is hard to guess.

    zxcvbn knows the 30,000 most common passwords, common words and names, keyboard patterns, dates
    and repetitions. Beside these it gets what an attacker knows of this user and this service.
    """
    from zxcvbn import zxcvbn  # noqa: PLC0415  13 MiB, and only the commands that set a password need it

    known = [*_OURS, email, *re.split(r"[^0-9a-z]+", email.lower())]
    rated = zxcvbn(password[:_RATED], user_inputs=known)
    if rated["score"] > HARDEST_SCORE_REFUSED:
        return None
    warning = rated["feedback"]["warning"].rstrip(".")
    return f": {warning[0].lower()}{warning[1:]}" if warning else ""


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
