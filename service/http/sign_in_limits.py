"""Limits on sign-ins: how often one may fail, and how many passwords wait to be hashed.

Strangers are limited by address and by account. A browser from which the user has signed in before
is limited by itself only, and has a lane of its own. So strangers can keep a user neither out of
the account nor waiting, as OWASP proposes:
https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from service.core.tokens import CookieToken
from service.http.rate_limits import Buckets, Clock, Lane

FAILURES_PER_SECOND, FAILURES_AT_ONCE = 0.2, 20.0
"""The rate and the burst for one address, and for one device."""

ACCOUNT_FAILURES_PER_SECOND, ACCOUNT_FAILURES_AT_ONCE = 0.5, 50.0
"""The same for all strangers who try one account. One address alone cannot use this up, so it takes
several networks to keep a user from signing in at a new device."""

HASHED_AT_ONCE = 1
"""In each of the two lanes. `passwords.AT_ONCE` is the sum."""

WAITING = 20
"""Sign-ins that wait in one lane. They take about a second; more are refused at once."""


class Attempt(NamedTuple):
    """Who tries to sign in."""

    address: str
    account: str
    """A hash of the typed e-mail: people type passwords into that field, too."""
    device: str | None
    """A hash of the browser's token, if the user has signed in from it before; else None."""


def attempt(address: str, email_key: str, device: CookieToken | None) -> Attempt:
    """Describe an attempt. ``device`` is None unless the user has signed in from it before."""
    account = hashlib.sha256(email_key.encode()).hexdigest()
    return Attempt(address, account, device.digest.hex() if device else None)


class SignInLimits:
    """The limits of one process."""

    def __init__(self, clock: Clock) -> None:
        """Start without any failure."""
        self._addresses = Buckets(FAILURES_PER_SECOND, FAILURES_AT_ONCE, clock)
        self._devices = Buckets(FAILURES_PER_SECOND, FAILURES_AT_ONCE, clock)
        self._accounts = Buckets(ACCOUNT_FAILURES_PER_SECOND, ACCOUNT_FAILURES_AT_ONCE, clock)
        self._strangers = Lane(at_once=HASHED_AT_ONCE, waiting=WAITING)
        self._known = Lane(at_once=HASHED_AT_ONCE, waiting=WAITING)

    def take(self, attempt: Attempt) -> float:
        """Count an attempt and return 0. If there were too many, return the seconds to wait."""
        taken: list[tuple[Buckets, str]] = []
        for buckets, key in self._limits(attempt):
            if wait := buckets.take(key):
                for earlier, its_key in taken:
                    earlier.give_back(its_key)
                return wait
            taken.append((buckets, key))
        return 0.0

    def give_back(self, attempt: Attempt) -> None:
        """Do not count an attempt that has not failed."""
        for buckets, key in self._limits(attempt):
            buckets.give_back(key)

    def lane(self, attempt: Attempt) -> Lane:
        """Return the lane in which the attempt waits until its password is hashed."""
        return self._known if attempt.device else self._strangers

    def _limits(self, attempt: Attempt) -> Iterator[tuple[Buckets, str]]:
        if attempt.device:
            yield self._devices, f"{attempt.device} {attempt.account}"
        else:
            yield self._addresses, attempt.address
            yield self._accounts, attempt.account
