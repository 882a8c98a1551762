"""The local stack behind ``crm up``: real servers from Python wheels, without Docker."""


class LocalError(Exception):
    """The local stack cannot run. The message says what is wrong and what to do."""
