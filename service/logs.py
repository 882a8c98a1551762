"""Logging, set up once per process. A log line never holds personal data, nor a password in a URL.

Text lines are for people. JSON lines are for machines: beside the message they have the ids that
the line is about, so that one order or one customer can be followed among millions.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from service import tracing
from service.core.personal_ids import holds_email
from service.server_urls import masked

Format = Literal["text", "json"]

FIELDS = (
    "eventId",
    "orderId",
    "customerId",
    "streamId",
    "partition",
    "reason",
    "sequence",
    "segment",
    "method",
    "route",
    "status",
    "milliseconds",
    "actor",
    "requestId",
)
"""The ids and values that a JSON line may have. Other attributes of a record are not written."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:/+-]{1,80}")


def plain(id_: object) -> str:
    """Return an id that a publisher chose, unless it may be personal or forge log lines."""
    if not isinstance(id_, str) or not _PLAIN.fullmatch(id_) or holds_email(id_):
        return "(not shown)"
    return id_


def set_up(level: str, form: Format = "text") -> None:
    """Log to standard error, including the error that ends the process."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level, handlers=[handler])
    # FastStream adds a handler of its own, which writes the messages of errors.
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    sys.excepthook = _log_fatal


def print_fatal_masked(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the error that ends a command, with ``***`` for passwords in URLs; for excepthook."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def _log_fatal(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("service").critical("the process ends", exc_info=(kind, error, trace))


def formatter(form: Format) -> logging.Formatter:
    """Return a formatter. Text has local times, JSON has UTC, both with milliseconds."""
    if form == "json":
        return DiscreetJson()
    return Discreet(
        "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )


class Discreet(logging.Formatter):
    """Writes where an error was raised and its class, but not its message.

    Messages quote values: Postgres quotes the row that violates a constraint, pydantic the input.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception that another formatter cached in the record is not used."""
        record.exc_text = None
        return masked(super().format(record))

    def formatException(  # noqa: N802  logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Return the error with all its causes, the first cause first."""
        return "" if ei[1] is None else "\n".join(_with_causes(ei[1], set())).rstrip()


class DiscreetJson(Discreet):
    """Writes one JSON object per line: time, level, logger, message, ids, trace and error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if trace := tracing.current_trace_id():
            line["traceId"] = trace
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _with_causes(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (earlier, *parts):
        if other is not None and id(other) not in seen:
            yield from _with_causes(other, seen)
            yield "which led to:"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    number = getattr(error, "errno", None) or getattr(error, "sqlstate", None)
    yield f"{type(error).__module__}.{type(error).__qualname__}" + (f" {number}" if number else "")
