"""Logging, set up once per process; nothing personal belongs into a line."""

import logging
import traceback
from collections.abc import Iterator
from types import TracebackType


def set_up(level: str) -> None:
    """Log to standard error, one line each, times in local time with milliseconds."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        Discreet(
            "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
    )
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)


class Discreet(logging.Formatter):
    """Writes where an error came up and of what class it is, and not its message.

    Messages quote values: Postgres the row that violates a constraint, pydantic the input.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; what another formatter made of its exception is not used."""
        record.exc_text = None
        return super().format(record)

    def formatException(  # noqa: N802  logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Write it with all its causes, the first one first."""
        return "" if ei[1] is None else "\n".join(_told(ei[1], set())).rstrip()


def _told(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (earlier, *parts):
        if other is not None and id(other) not in seen:
            yield from _told(other, seen)
            yield "which led to:"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    number = getattr(error, "errno", None) or getattr(error, "sqlstate", None)
    yield f"{type(error).__module__}.{type(error).__qualname__}" + (f" {number}" if number else "")
