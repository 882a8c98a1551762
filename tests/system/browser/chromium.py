"""The browser that the tests drive: Debian's Chromium, or whichever one is installed."""

import shutil

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
"""In containers, where tests run as root and shared memory is small."""


def chromium() -> str | None:
    """Find one; None: there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)
