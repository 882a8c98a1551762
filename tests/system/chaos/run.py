"""One run: faults by a schedule under load, then no load, then the audit."""

import argparse
import asyncio
import contextlib
import logging
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.chaos.audit import Audit, audit
from tests.system.chaos.faults import FAULTS
from tests.system.chaos.schedule import Step, schedule
from tests.system.chaos.skipped import Skipped
from tests.system.chaos.stage import Stage, staged

PER_SECOND = 120.0
_SHOWN = 20


class Options(argparse.Namespace):
    """The options of a run."""

    seconds: float
    seed: int
    redis: str
    alone: bool
    only: str
    backlog: int

    @property
    def again(self) -> str:
        """The command that repeats the run."""
        text = f"make chaos SECONDS={self.seconds:g} SEED={self.seed} REDIS={self.redis}"
        more = ["--alone"] if self.alone else []
        more += [f"--only '{self.only}'"] if self.only else []
        return f'{text} MORE="{" ".join(more)}"' if more else text


@dataclass
class Report:
    """The result of a run."""

    options: Options
    injected: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds from the end of a fault until all events published by then had taken effect."""
    wrong: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        lines = ["", f"{'fault':<69} times   recovery: median     max"]
        for name, times in sorted(self.injected.items()):
            seconds = self.recoveries[name]
            middle, longest = statistics.median(seconds), max(seconds)
            lines.append(f"  {name:<67} {times:>5} {middle:>16.1f} s {longest:>5.1f} s")
        lines += [f"  {name}: skipped, {why}" for name, why in sorted(self.skipped.items())]
        figures = {"seed": self.options.seed, "planned": f"{self.options.seconds:g} s"}
        lines += ["", *(f"{name:<18} {value}" for name, value in (figures | self.figures).items())]
        if self.wrong:
            lines += ["", f"FAILED: {len(self.wrong)} differences", *self.wrong[:_SHOWN]]
            lines += ["", f"To repeat the same faults in the same order: {self.options.again}"]
        return lines


async def run(report: Report, folder: Path, say: Callable[[str], None]) -> None:
    """Run faults and audit; fill the report on the way, so that a failed run has one, too."""
    options = report.options
    faults = {name: kind for name, kind in FAULTS.items() if options.only in name}
    steps = schedule(options.seed, options.seconds, faults, alone=options.alone)
    started = time.monotonic()
    # Silence the client libraries, which log what they left behind when their server died.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    async with staged(
        options.redis,
        folder,
        seed=options.seed,
        seconds=options.seconds,
        per_second=PER_SECOND,
        backlog=options.backlog,
    ) as stage:
        rng = random.Random(options.seed)
        async with stage.asking(), stage.erasing(), stage.publishers.publishing():
            for number, step in enumerate(steps, 1):
                at = f"{time.monotonic() - started:6.1f} s"
                say(f"{at}  {number:>3}/{len(steps)}  {' + '.join(step.faults)}")
                await _inject(stage, step, rng, report)
        await stage.drained()
        await stage.crew.ready()
        found = await audit(stage)
        report.wrong += found.wrong
        _count(stage, found, report)
        report.figures["took"] = f"{time.monotonic() - started:.0f} s"


async def _inject(stage: Stage, step: Step, rng: random.Random, report: Report) -> None:
    await asyncio.sleep(step.pause)
    done: list[str] = []
    noticed = await stage.noticed_losses()
    async with contextlib.AsyncExitStack() as stack:
        for name in step.faults:
            try:
                await stack.enter_async_context(FAULTS[name].inject(stage, rng))
            except Skipped as skipped:
                report.skipped[name] = str(skipped)
            else:
                done.append(name)
        await asyncio.sleep(step.hold)
    if any(FAULTS[name].loses for name in done):
        await stage.publishers.republish()
    seconds = await stage.recovered()
    losses = sum(FAULTS[name].loses for name in done)
    if not await stage.notices(noticed + losses):
        report.wrong.append(f"the service did not notice the loss by: {' + '.join(done)}")
    for name in done:
        report.injected[name] += 1
        report.recoveries[name].append(seconds)


def _count(stage: Stage, found: Audit, report: Report) -> None:
    ledger, seen = stage.publishers.ledger, stage.analytics
    lossy = sum(times for name, times in report.injected.items() if FAULTS[name].loses)
    if found.losses != lossy:
        report.wrong.append(f"Redis lost entries {lossy} times, the service noticed {found.losses}")
    if stage.answers[500]:
        report.wrong.append(f"web processes answered 500 {stage.answers[500]} times")
    report.figures = {
        "faults": report.injected.total(),
        "entries published": f"{ledger.entries:,} ({ledger.distinct:,} different events,"
        f" {ledger.repeated:,} repeated, {ledger.late:,} late, {len(ledger.bad):,} bad)",
        "segment changes": f"{seen.seen:,} received, {seen.repeats:,} repeats dropped by sequence,"
        f" stream read from the beginning {seen.restarts} times",
        "webhooks": ", ".join(
            f"{each.came:,} came ({each.repeats:,} repeats)"
            for each in (stage.hooks.hurt, stage.hooks.steady)
        ),
        "removed": f"{len(seen.removed):,} customers; {found.merged:,} of them were merged",
        "redis lost": f"entries in {lossy} faults; the service noticed {found.losses} losses",
        "forged entries": f"{stage.forged} added; the consumer distrusted {seen.distrusted}",
        "web answers": ", ".join(f"{n} × {status}" for status, n in sorted(stage.answers.items())),
        "unexpected exits": ", ".join(f"{n} × {how}" for how, n in stage.crew.unasked.items())
        or "none",
        **stage.notes,
        "lost": found.lost,
        "doubled": found.doubled,
    }
