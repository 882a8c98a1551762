"""The RFM groups as a table: each group once, and each fifth where it belongs."""

from decimal import Decimal

from service.core.rfm import GRID, RfmGroup
from service.db.outlook.work_lists import GroupFigures
from service.http.dashboard.rfm_grid import rfm_grid


def test_each_group_covers_the_fifths_that_belong_to_it() -> None:
    nobody = GroupFigures(0, Decimal(0), 0.0)
    groups = dict.fromkeys(RfmGroup, nobody)
    groups |= {
        RfmGroup.LOYAL: nobody._replace(customers=100),
        RfmGroup.NEW: nobody._replace(customers=1),
        RfmGroup.PROSPECTS: nobody._replace(customers=9000),
    }
    rows = rfm_grid(groups)
    # Lay the cells out as a browser does: each goes into the first free column of its row.
    laid: dict[tuple[int, int], RfmGroup] = {}
    for row in rows:
        for area in row.areas:
            first = next(c for c in range(5) if (row.recency, c) not in laid)
            for r in range(area.rows):
                for c in range(area.columns):
                    assert (row.recency - r, first + c) not in laid
                    laid[row.recency - r, first + c] = area.group
    assert [row.recency for row in rows] == [5, 4, 3, 2, 1]
    assert laid == {(r, c): group for r, row in GRID.items() for c, group in enumerate(row)}
    heat = {area.group: area.heat for row in rows for area in row.areas}
    assert heat.pop(RfmGroup.LOYAL) == 5
    assert heat.pop(RfmGroup.NEW) == 1
    assert {*heat.values()} == {0}
    assert RfmGroup.PROSPECTS not in heat
