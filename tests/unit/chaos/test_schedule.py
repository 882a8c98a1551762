"""The schedule of faults depends on seed and duration alone, and leaves out no fault."""

from itertools import pairwise

import pytest

from tests.system.chaos.faults import FAULTS
from tests.system.chaos.schedule import schedule


def test_the_same_seed_and_duration_give_the_same_schedule() -> None:
    assert schedule(7, 600, FAULTS) == schedule(7, 600, dict(reversed(FAULTS.items())))
    assert schedule(7, 600, FAULTS) != schedule(8, 600, FAULTS)


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_comes_once_before_any_repeats(seed: int) -> None:
    names = [name for step in schedule(seed, 600, FAULTS) for name in step.faults]
    counts = {name: names.count(name) for name in FAULTS}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert min(counts.values()) >= 1


@pytest.mark.parametrize("seed", range(20))
def test_faults_overlap_only_where_they_touch_different_parts(seed: int) -> None:
    steps = schedule(seed, 600, FAULTS)
    assert any(len(step.faults) == 2 for step in steps)
    for step in steps:
        for one, other in pairwise(step.faults):
            assert FAULTS[one].lasting <= FAULTS[other].lasting
            assert not FAULTS[one].hurts & FAULTS[other].hurts


def test_without_overlap_each_fault_comes_once() -> None:
    steps = schedule(1, 5, FAULTS, alone=True)
    assert sorted(step.faults for step in steps) == [(name,) for name in sorted(FAULTS)]
