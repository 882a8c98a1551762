"""The order of the faults. It depends on the seed and the duration alone."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.system.chaos.faults.registry import Fault

_RECOVERY_SECONDS = 4.0
"""Rough time of a step, without its holds and pauses; a slow machine takes longer."""
_HOLDS = (0.5, 1.0, 2.0)
_LONG_HOLDS = (0.5, 2.0, 5.0, 15.0)
_LONG_FROM = 300.0
"""In runs of this length or more, faults may last longer than the service's time limits."""
_PAIRED = 0.4


class Step(NamedTuple):
    """Faults that begin one after the other, overlap, and are cleared in reverse order."""

    pause: float
    faults: tuple[str, ...]
    hold: float


def schedule(
    seed: int, seconds: float, faults: Mapping[str, Fault], *, alone: bool = False
) -> list[Step]:
    """Return steps for that many seconds. Each fault comes once before any comes again.

    Two faults overlap only if they touch different parts. With ``alone`` none overlap, and the plan
    ends when each has come once.
    """
    rng = random.Random(seed)
    steps: list[Step] = []
    planned = 0.0
    deck: list[str] = []
    while planned < seconds or (alone and deck):
        if not deck:
            if alone and steps:
                break
            deck = sorted(faults)
            rng.shuffle(deck)
        first = deck.pop()
        second = _partner(first, deck, faults) if not alone and rng.random() < _PAIRED else None
        if second:
            deck.remove(second)
        hold = rng.choice(_LONG_HOLDS if seconds >= _LONG_FROM else _HOLDS)
        pause = rng.uniform(0, 1)
        together = sorted(filter(None, (first, second)), key=lambda name: faults[name].lasting)
        steps.append(Step(pause, tuple(together), hold))
        planned += pause + hold + _RECOVERY_SECONDS
    return steps


def _partner(first: str, deck: Sequence[str], faults: Mapping[str, Fault]) -> str | None:
    return next(
        (name for name in reversed(deck) if not faults[name].hurts & faults[first].hurts), None
    )
