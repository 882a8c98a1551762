"""What axe finds on a page."""

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page


async def serious_faults(tab: Page) -> list[str]:
    """Return the serious and critical faults of what is shown, each with its elements."""
    found = await Axe().run(tab)
    return [
        f"{it['id']}: {[node['target'] for node in it['nodes']]}"
        for it in found.response["violations"]
        if it["impact"] in {"serious", "critical"}
    ]
