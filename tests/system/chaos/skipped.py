"""How a fault says that it cannot run here."""


class Skipped(Exception):  # noqa: N818  not an error
    """The fault is not permitted on this system; the message says why."""
