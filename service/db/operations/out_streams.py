"""The streams that the relay publishes."""

from service.config import Config
from service.db.customers.removals import REMOVALS
from service.db.out_stream_tail import OutStream
from service.db.segments.change_outbox import CHANGES


def out_streams(config: Config) -> tuple[OutStream, OutStream]:
    """Return the streams of segment changes and of removals."""
    return OutStream(config.changes_stream, CHANGES), OutStream(config.removals_stream, REMOVALS)
