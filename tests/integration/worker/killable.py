"""`crm worker` that dies of certain entries, as of a fault in a library."""

import os
import signal
import sys
from datetime import datetime
from typing import Any

from service.core.envelope import Entry
from service.core.judge import Terms, judge
from service.core.order_event import OrderEvent, Refusal

DEADLY = b"deadly"


def _judge(entry: Entry, terms: Terms, now: datetime) -> OrderEvent | Refusal:
    if any(DEADLY in value for value in entry.fields.values()):
        os.kill(os.getpid(), signal.SIGKILL)
    return judge(entry, terms, now)


def main() -> None:
    """Run ``crm worker``."""
    from consumers import orders  # noqa: PLC0415
    from service.cli.main import main as crm  # noqa: PLC0415

    module: Any = orders
    module.judge = _judge
    sys.argv = ["crm", "worker"]
    crm()


if __name__ == "__main__":
    main()
