"""The browser that the tests drive: Debian's Chromium, or another one that is installed."""

import shutil

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
"""Needed in containers: tests run as root there, and shared memory is small."""


def chromium() -> str | None:
    """Return the path of a Chromium or Chrome. None if there is none.

    The shell is Chromium without a browser's window. The others open one for each page, which
    takes more than half a second of CPU time.
    """
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)
