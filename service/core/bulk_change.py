"""What can be done to many customers at once."""

from enum import StrEnum


class BulkKind(StrEnum):
    """A change of many customers."""

    ADD_TAG = "add_tag"
    REMOVE_TAG = "remove_tag"
