"""The picture of the test: for each band of the chance, what came and what was said."""

from typing import NamedTuple

from service.core.outlook import Band, HoldOut

WIDTH, HEIGHT = 640, 240
"""The size of the picture, in the units of its view box."""


class Bar(NamedTuple):
    """A band: a bar for what came, a line for what was said, and what chance explains."""

    band: Band
    x: float
    width: float
    y: float
    height: float
    said: float
    """The height of the line."""
    low: float
    high: float
    """The heights between which chance alone leads, in 95 of 100 cases."""
    middle: float


def picture(test: HoldOut) -> list[Bar]:
    """Return the bars, from the smallest chance to the greatest."""
    column = WIDTH / len(test.bands)
    return [_bar(band, column * place, column) for place, band in enumerate(test.bands)]


def _bar(band: Band, left: float, column: float) -> Bar:
    low, high = band.range
    return Bar(
        band=band,
        x=round(left + column * 0.15, 1),
        width=round(column * 0.7, 1),
        y=_y(band.came),
        height=round(HEIGHT * band.came, 1),
        said=_y(band.said),
        low=_y(low),
        high=_y(high),
        middle=round(left + column / 2, 1),
    )


def _y(share: float) -> float:
    return round(HEIGHT - HEIGHT * share, 1)
