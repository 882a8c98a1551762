"""Take pictures of each page with the demo's data: `make pictures` (needs Chromium).

All go to the folder given, or to a temporary one. The picture of the README is replaced, too.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.system.browser.chromium import ARGUMENTS, chromium

README_PICTURE = Path(__file__).with_name("customers.png")
_PAGES = {
    "customers": "/",
    "details": "/customers/CUST-1001",
    "edit": "/customers/CUST-1001/edit",
    "duplicates": "/duplicates",
    "retention": "/retention",
    "settings": "/settings",
    "operations": "/operations",
}
_SIZES = {"desktop": (1300, 900), "phone": (390, 844)}


@asynccontextmanager
async def _demo(folder: Path) -> AsyncIterator[str]:
    """Run the demo in an empty folder. Yield its address once the history is loaded."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("crm"),
        "demo",
        env=os.environ | {"CRM_DATA_DIR": str(folder), "CRM_HTTP_PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    try:
        async for line in process.stdout:
            if line.startswith(b"Live orders"):
                break
        yield json.loads((folder / "stack.json").read_text())["httpUrl"]
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()


async def _take(browser: Browser, site: str, folder: Path) -> None:
    for size, (width, height) in _SIZES.items():
        for scheme in ("light", "dark"):
            context = await browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                locale="en-US",
                timezone_id="America/Chicago",
            )
            page = await context.new_page()
            for name, path in _PAGES.items():
                await page.goto(site + path)
                await page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
            await context.close()


async def main(folder: Path) -> None:
    """Take all pictures."""
    executable = chromium()
    if executable is None:
        sys.exit("There is no Chromium here: `make tools` installs it, as root.")
    with tempfile.TemporaryDirectory() as data:
        async with _demo(Path(data)) as site, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
            await _take(browser, site, folder)
            await browser.close()
    README_PICTURE.write_bytes((folder / "customers-desktop-light.png").read_bytes())
    print(f"Pictures in {folder}, the README's in {README_PICTURE}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if sys.argv[1:] else tempfile.mkdtemp(prefix="crm-"))))
