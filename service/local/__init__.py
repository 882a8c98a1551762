"""The local stack behind ``crm up``: real servers from wheels, supervised by us, no Docker."""


class LocalError(Exception):
    """The local stack cannot run; the message says what is wrong and what to do about it."""
