"""The browser that the tests drive: Debian's Chromium, or another one that is installed."""

import shutil

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
"""Needed in containers: tests run as root there, and shared memory is small."""


def chromium() -> str | None:
    """Return the path of a Chromium or Chrome. None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)
