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
        "| | contender | events | events/s | ours is faster by |",
        "|---|---|--:|--:|--:|",
    ]
    for contender in contenders:
        name = contender.name
        rates = [measured[name].rate for measured in rounds]
        ratios = [measured[mine].rate / measured[name].rate for measured in rounds]
        times = "" if name == mine else f"{spread(ratios, '.2f')} ×"
        lines.append(
            f"| {name} | {contender.what} | {events[name]:,} | {spread(rates, ',.0f')} | {times} |"
        )
    cost = [measured[mine].cpu for measured in rounds]
    if names := sorted({name for one in cost for name in one}):
        lines += [
            "",
            "Our CPU seconds per million events: "
            + ", ".join(
                f"{name} {spread([one.get(name, 0.0) for one in cost], '.0f')}" for name in names
            )
            + ".",
        ]
    return "\n".join(lines)


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
