"""Logging, set up once per process; nothing personal belongs into a line."""

import logging


def set_up(level: str) -> None:
    """Log to standard error, one line each, times in local time with milliseconds."""
    logging.basicConfig(
        level=level,
        format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
