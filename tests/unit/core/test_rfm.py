"""Scores are fifths of the own shop, and each score belongs to one group."""

from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal

import pytest

from service.core.rfm import Cuts, RfmGroup, Scores, cuts, numbers_of, scores
from service.demo.cdnow import Purchase, purchases

FIFTHS = range(1, 6)


def test_the_groups_of_a_real_shop() -> None:
    of: dict[int, list[Purchase]] = defaultdict(list)
    for purchase in purchases():
        of[purchase.customer].append(purchase)
    last = {it: max(purchase.day for purchase in of[it]) for it in of}
    number = {it: len(of[it]) for it in of}
    spent = {it: sum((purchase.dollars for purchase in of[it]), Decimal(0)) for it in of}
    found = Cuts(cuts(list(last.values())), cuts(list(number.values())), cuts(list(spent.values())))
    assert found.frequency == (1, 1, 2, 4)
    groups = Counter(found.scores(last[it], number[it], spent[it]).group for it in of)
    assert groups == {
        RfmGroup.CHAMPIONS: 434,
        RfmGroup.LOYAL: 430,
        RfmGroup.DORMANT: 775,
        RfmGroup.ALMOST_LOST: 320,
        RfmGroup.AT_RISK: 168,
        RfmGroup.ACTIVE: 144,
        RfmGroup.NEEDS_ATTENTION: 76,
        RfmGroup.PREVIOUSLY_LOYAL: 10,
    }


def test_equal_values_have_equal_scores_and_a_fifth_may_be_empty() -> None:
    days = (date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 1))
    found = Cuts(days, (1, 1, 2, 4), (10, 20, 30, 40))
    assert [found.scores(days[0], orders, 10).frequency for orders in range(1, 6)] == [
        1,
        3,
        4,
        4,
        5,
    ]
    assert found.scores(date(2026, 5, 1), 9, 41) == (5, 5, 5)
    assert found.scores(days[1], 9, 40) == (2, 5, 4)


@pytest.mark.parametrize("values", [[7], [3, 3, 3, 3], list(range(10))])
def test_the_cuts_are_values_of_the_shop(values: list[int]) -> None:
    found = cuts(values)
    assert found == tuple(sorted(found))
    assert set(found) <= set(values)
    if len(values) == 10:
        assert found == (1, 3, 5, 7)


def test_every_score_has_one_group_and_comes_back_from_its_number() -> None:
    every = [Scores(r, f, m) for r in FIFTHS for f in FIFTHS for m in FIFTHS]
    assert [scores(it.number) for it in every] == every
    numbers = [number for group in RfmGroup for number in numbers_of(group)]
    assert sorted(numbers) == sorted(it.number for it in every)
    assert numbers_of(RfmGroup.PROSPECTS) == []
    assert Scores(5, 5, 5).group is Scores(5, 4, 3).group is RfmGroup.CHAMPIONS
    assert Scores(5, 1, 1).group is RfmGroup.NEW
    assert Scores(3, 3, 2).group is RfmGroup.NEEDS_ATTENTION
    assert RfmGroup.PREVIOUSLY_LOYAL.label == "Previously loyal"
