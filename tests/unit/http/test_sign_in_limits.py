"""Who is refused after how many failed sign-ins."""

from service.core.tokens import CookieToken
from service.http.sign_in_limits import (
    ACCOUNT_FAILURES_AT_ONCE,
    ACCOUNT_FAILURES_PER_SECOND,
    FAILURES_AT_ONCE,
    FAILURES_PER_SECOND,
    Attempt,
    SignInLimits,
    attempt,
)

DEVICE, OTHER = CookieToken.make(), CookieToken.make()


class Door:
    """Limits with a clock that tests advance."""

    def __init__(self) -> None:
        self.time = 0.0
        self.limits = SignInLimits(lambda: self.time)

    def fail(self, who: Attempt) -> int:
        """Fail until refused; return how often."""
        times = 0
        while not self.limits.take(who):
            times += 1
        return times


def test_a_stranger_is_limited_by_address_and_leaves_others_alone() -> None:
    door = Door()
    assert door.fail(attempt("a", "jane", None)) == FAILURES_AT_ONCE
    assert door.limits.take(attempt("a", "john", None)) == 1 / FAILURES_PER_SECOND
    assert door.limits.take(attempt("b", "jane", None)) == 0


def test_strangers_at_many_addresses_are_limited_by_account() -> None:
    door = Door()
    failed = sum(door.fail(attempt(str(number), "jane", None)) for number in range(100))
    assert failed == ACCOUNT_FAILURES_AT_ONCE
    newcomer = attempt("new", "jane", None)
    assert door.limits.take(newcomer) == 1 / ACCOUNT_FAILURES_PER_SECOND
    # What the account refuses is not counted for the address.
    assert door.fail(attempt("new", "john", None)) == FAILURES_AT_ONCE


def test_strangers_at_two_addresses_cannot_hold_an_account_for_a_day() -> None:
    door = Door()
    for _ in range(24 * 60 * 60):
        for address in ("a", "b"):
            door.limits.take(attempt(address, "jane", None))
        newcomer = attempt("new", "jane", None)
        assert door.limits.take(newcomer) == 0
        door.limits.give_back(newcomer)
        door.time += 1


def test_a_device_is_limited_by_itself_for_each_of_its_users() -> None:
    door = Door()
    for number in range(100):
        door.fail(attempt(str(number), "jane", None))
    assert door.fail(attempt("0", "jane", DEVICE)) == FAILURES_AT_ONCE
    assert door.fail(attempt("0", "jane", OTHER)) == FAILURES_AT_ONCE
    assert door.fail(attempt("0", "john", DEVICE)) == FAILURES_AT_ONCE
    door.time += 1 / FAILURES_PER_SECOND
    assert door.limits.take(attempt("0", "jane", DEVICE)) == 0


def test_a_success_is_not_counted() -> None:
    door = Door()
    for who in (attempt("a", "jane", None), attempt("a", "jane", DEVICE)):
        for _ in range(1000):
            assert door.limits.take(who) == 0
            door.limits.give_back(who)
