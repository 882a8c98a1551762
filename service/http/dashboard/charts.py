"""The geometry of charts. Templates draw it as SVG, and the style sheet colours it."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Slice(NamedTuple):
    """A part of a ring, as ``stroke-dasharray`` and ``-offset`` of a circle of length 100."""

    name: str
    length: float
    offset: float


def ring(counts: Mapping[str, int]) -> list[Slice]:
    """Divide a ring in proportion to counts. Parts with a count of 0 are left out."""
    total = sum(counts.values())
    slices, before = list[Slice](), 0.0
    for name, count in counts.items():
        if count:
            length = 100 * count / total
            slices.append(Slice(name, round(length, 3), round(25 - before, 3)))
            before += length
    return slices


class Scale(NamedTuple):
    """An axis from 0 to ``top`` with a line at each tick."""

    top: float
    ticks: Sequence[float]

    @classmethod
    def of(cls, greatest: float, lines: int = 4) -> "Scale":
        """Return an axis with steps of 1, 2 or 5 times a power of ten that reaches ``greatest``."""
        step = _round_step(greatest / lines) if greatest > 0 else 1.0
        count = max(math.ceil(greatest / step), 1)
        return cls(step * count, [step * n for n in range(count + 1)])


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least * 0.999)


class Band(NamedTuple):
    """One of several stacked areas, as the ``d`` of an SVG path."""

    name: str
    path: str


def stack(
    series: Mapping[str, Sequence[float]], width: float, height: float, top: float
) -> list[Band]:
    """Stack areas, the first at the bottom. All series have the same number of points."""
    points = len(next(iter(series.values())))
    xs = [width * n / max(points - 1, 1) for n in range(points)]
    floor, bands = [0.0] * points, list[Band]()
    for name, values in series.items():
        ceiling = [low + value for low, value in zip(floor, values, strict=True)]
        upper = [_point(x, height - height * y / top) for x, y in zip(xs, ceiling, strict=True)]
        lower = [_point(x, height - height * y / top) for x, y in zip(xs, floor, strict=True)]
        bands.append(Band(name, f"M{' L'.join([*upper, *reversed(lower)])}Z"))
        floor = ceiling
    return bands


class Bar(NamedTuple):
    """An upright bar, and the left edge of its column."""

    column: float
    x: float
    y: float
    width: float
    height: float


def bars(values: Sequence[float], width: float, height: float, top: float) -> list[Bar]:
    """Return one bar per value, each four fifths as wide as its column."""
    column = width / len(values)
    return [
        Bar(
            *(
                round(number, 1)
                for number in (
                    column * n,
                    column * (n + 0.1),
                    height - height * value / top,
                    column * 0.8,
                    height * value / top,
                )
            )
        )
        for n, value in enumerate(values)
    ]


def _point(x: float, y: float) -> str:
    # A tenth of the view box's unit is less than anybody sees, and a fifth of the page.
    return f"{x:.0f} {y:.0f}"
