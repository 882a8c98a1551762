"""Say why PostgreSQL or Redis cannot be used, in words that name no person and no password.

Messages of errors quote values: rows, URLs, inputs. So only their kinds are put into words here.
"""

import socket
import ssl
from collections.abc import Iterator

from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ReadOnlyError

_BY_STATE = {
    "28000": "it refuses this user",
    "28P01": "it refuses this user or the password",
    "3D000": "it has no database of that name",
    "42501": "this user lacks a right that this needs (deploy/postgres/roles.sql)",
    "53300": "it has no connection left",
    "57P03": "it is starting or stopping",
}
"""Sentences by SQLSTATE."""
_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (AuthenticationError, "it refuses this user or the password"),
    (NoPermissionError, "this user lacks a right that this needs"),
    (BusyLoadingError, "it is still loading its data"),
    (ReadOnlyError, "it is a read-only replica"),
    (socket.gaierror, "its host name cannot be resolved"),
    (ssl.SSLError, "the encrypted connection fails"),
    (ConnectionRefusedError, "nobody listens at its address"),
    (TimeoutError, "it does not answer in time"),
)


def why_away(error: BaseException) -> str:
    """Return why a server cannot be used; if the cause is not known here, the error's class."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({cause.verify_message.rstrip('.')})"
    for cause in causes:
        if sentence := _BY_STATE.get(str(getattr(cause, "sqlstate", None))):
            return sentence
    for kind, sentence in _BY_CLASS:
        if any(isinstance(cause, kind) for cause in causes):
            return sentence
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and the errors that led to it."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        parts = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [
            other
            for other in (one.__cause__, one.__context__, getattr(one, "orig", None), *parts)
            if isinstance(other, BaseException)
        ]
