"""The registry of faults by name."""

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.system.chaos.stage import Stage

Inject = Callable[[Stage, random.Random], contextlib.AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    hurts: frozenset[str]
    """Parts that no second fault may touch at the same time."""
    inject: Inject
    loses: bool
    """Redis forgets entries that it has acknowledged; publishers send them again."""
    lasting: bool
    """The service may stand still while it lasts, so of two overlapping faults it begins last."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *hurts: str, loses: bool = False, lasting: bool = False
) -> Callable[[Inject], Inject]:
    """Register a fault: a context manager that is entered to inject it and left to clear it."""

    def register(inject: Inject) -> Inject:
        FAULTS[name] = Fault(name, frozenset(hurts), inject, loses, lasting)
        return inject

    return register
