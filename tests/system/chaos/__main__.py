"""``python -m tests.system.chaos``: see ``--help``."""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from tests.system.chaos.disk import with_own_mounts
from tests.system.chaos.run import Options, Report, run
from tests.system.chaos.servers import REDIS, VALKEY, debian_redis

_OWN_MOUNTS = "CHAOS_OWN_MOUNTS"


def main() -> int:
    """Run once; return exit status 1 if anything was lost, doubled or otherwise wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos", description="Faults under load, then an audit."
    )
    add = parser.add_argument
    add(
        "--seconds", type=float, default=120, help="length of the plan; a slow machine takes longer"
    )
    add("--seed", type=int, default=random.randrange(1_000_000), help="which faults, and when")
    add(
        "--redis",
        choices=(VALKEY, REDIS),
        default=VALKEY,
        help="Valkey from the wheel, or Debian's Redis",
    )
    add(
        "--alone",
        action="store_true",
        help="each fault once and none overlapping, however long that takes",
    )
    add("--only", default="", help="only faults whose name contains this text")
    add("--backlog", type=int, default=10_000, help="entries in the fault that piles up a backlog")
    options = parser.parse_args(namespace=Options())
    if options.redis == REDIS and not debian_redis():
        say("SKIPPED: redis-server is not installed (apt-get install redis-server)")
        return 0
    report = Report(options)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # so that it also stops the processes it has started
    folder = Path(tempfile.mkdtemp(prefix="crm-chaos-"))
    say(f"seed {options.seed}, {options.seconds:g} s, {options.redis}; logs in {folder}")
    try:
        asyncio.run(run(report, folder, say))
    except Exception as error:  # noqa: BLE001  after any error the report says how to repeat the run
        traceback.print_exc()
        report.wrong.append(f"{type(error).__name__}: {error}")
    say("\n".join(report.lines()))
    if report.wrong:
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def say(line: str) -> None:
    """Print a line without buffering."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if _OWN_MOUNTS not in os.environ:
        command = with_own_mounts([sys.executable, "-m", "tests.system.chaos", *sys.argv[1:]])
        os.execvpe(command[0], command, os.environ | {_OWN_MOUNTS: "yes"})  # noqa: S606
    sys.exit(main())
