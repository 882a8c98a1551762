"""Ids of stream entries, ``<milliseconds>-<sequence>``; compare them as numbers, never as text.

As text, "…-11" would come before "…-4".
"""

StreamId = tuple[int, int]
"""An entry's id. Ids compare in the order in which Redis added the entries."""

NO_ID: StreamId = (0, 0)
LAST_SEQUENCE = 2**64 - 1


def parse(written: str | bytes) -> StreamId:
    """Parse an id in Redis's notation; a missing sequence is 0."""
    text = written.decode() if isinstance(written, bytes) else written
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def write(parsed: StreamId) -> str:
    """Format an id in Redis's notation."""
    return f"{parsed[0]}-{parsed[1]}"


def before(parsed: StreamId) -> StreamId:
    """Return the greatest id that is smaller. `NO_ID`, the smallest one, is returned unchanged."""
    milliseconds, sequence = parsed
    if sequence:
        return milliseconds, sequence - 1
    return (milliseconds - 1, LAST_SEQUENCE) if milliseconds else NO_ID
