"""The measurements as Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.contenders import Contender
from tests.bench.runs import Measured


def table(
    contenders: Sequence[Contender],
    rounds: Sequence[Mapping[str, Measured]],
    events: Mapping[str, int],
    customers: int,
) -> str:
    """Return a table of medians and spread, our speed over each contender's, and our CPU cost.

    A ratio is taken within a round, so that other load on the machine slows both.
    """
    mine = contenders[0].name
    lines = [
        f"{len(rounds)} rounds; events of {customers:,} customers; median (least–greatest)",
        "",
        "| | contender | events | events/s | ours is faster by | CPU of an event, µs |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for contender in contenders:
        name = contender.name
        rates = [measured[name].rate for measured in rounds]
        ratios = [measured[mine].rate / measured[name].rate for measured in rounds]
        times = "" if name == mine else f"{spread(ratios, '.2f')} ×"
        cost = spread([sum(measured[name].cpu.values()) for measured in rounds], ",.0f")
        lines.append(
            f"| {name} | {contender.what} | {events[name]:,} | {spread(rates, ',.0f')} | {times} |"
            f" {cost} |"
        )
    return "\n".join([*lines, "", _cost_of([measured[mine] for measured in rounds])])


def _cost_of(measured: Sequence[Measured]) -> str:
    """Return what an event costs us, by kind of process, and how long the processors were idle."""
    names = sorted({name for one in measured for name in one.cpu})
    costs = [
        f"{name} {spread([one.cpu.get(name, 0.0) for one in measured], '.0f')}" for name in names
    ]
    return (
        f"Our CPU of an event, in µs: {', '.join(costs)}. Meanwhile the processors were idle for "
        f"{spread([one.idle for one in measured], '.0%')} of the time."
    )


def spread(values: Sequence[float], form: str) -> str:
    """Return a median with the least and the greatest value in brackets."""
    middle = f"{median(values):{form}}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}}–{max(values):{form}})"


def percentiles(seconds: Sequence[float]) -> str:
    """Return p50 and p99 in milliseconds."""
    ranked = sorted(seconds)
    half, most = ranked[len(ranked) // 2], ranked[int(len(ranked) * 0.99)]
    return f"p50 {half * 1000:.1f} ms, p99 {most * 1000:.1f} ms"
