"""The states of an import that was begun on the dashboard or over the API."""

from enum import StrEnum


class ImportState(StrEnum):
    """Where an import stands."""

    UPLOADING = "uploading"
    """The file is arriving."""
    PREVIEWING = "previewing"
    """A dry run reads the file."""
    READY = "ready"
    """The dry run is done. Somebody has to decide."""
    IMPORTING = "importing"
    DONE = "done"
    FAILED = "failed"
    """The file cannot be read, or the service failed. The import's error says why."""
    STOPPED = "stopped"
    """A person stopped it, or its process has ended. It can go on."""
