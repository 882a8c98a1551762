"""A real web process, and a real browser that notices what a page should not do."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)

from tests.conftest import Service
from tests.processes import HOST, processes
from tests.system.browser.chromium import ARGUMENTS, chromium
from tests.wait import PATIENCE as SLOW_MACHINE
from tests.wait import until

PATIENCE = 45_000
"""Milliseconds, on a slow and loaded machine."""
expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Site:
    """The dashboard as a browser reaches it, without sign-in, and the service behind it."""

    url: str
    service: Service


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium."""
    path = chromium()
    if path is None and "CI" in os.environ:
        pytest.fail("there is no Chromium here: `make tools` installs it")
    if path is None:
        pytest.skip("there is no Chromium here: `make tools` installs it, as root")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        await started.close()


@pytest.fixture(scope="session")
async def web_process(
    migrated: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """Start one; give its address."""
    async with processes(migrated.servers, tmp_path_factory.mktemp("web")) as started:
        process = await started.web(rate_limit_burst=1_000_000)
        yield f"http://{HOST}:{process.port}"


@pytest.fixture
async def site(service: Service, web_process: str) -> Site:
    """Give a site without customers; its invariants hold afterwards."""

    async def is_open() -> bool:
        # It remembers for a moment that an earlier test had users who sign in.
        async with httpx.AsyncClient(timeout=SLOW_MACHINE) as http:
            return (await http.get(web_process)).status_code == HTTPStatus.OK

    await until(is_open)
    return Site(web_process, service)


@pytest.fixture
async def tab(site: Site, browser: Browser) -> AsyncIterator[Page]:
    """Open a tab; it must never log an error, run a stray script or ask another host."""
    size = ViewportSize(width=1300, height=900)
    context = await browser.new_context(
        base_url=site.url,
        viewport=size,
        locale="en-US",
        timezone_id="America/Chicago",
        reduced_motion="reduce",  # what fades in has no contrast yet
    )
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda it: _note_error(it, wrong))
    page.on("request", lambda it: _note_stranger(it.url, site, wrong))
    yield page
    await context.close()
    assert wrong == []


def _note_stranger(url: str, site: Site, wrong: list[str]) -> None:
    if urlsplit(url).netloc != urlsplit(site.url).netloc:
        wrong.append(f"asked {url}")


def _note_error(it: ConsoleMessage, wrong: list[str]) -> None:
    # A form that was refused, or did not get through, is logged, and an answer like another.
    url = it.location["url"]
    of_a_form = (
        "/customers/" in url or "/settings" in url
    ) and "Failed to load resource" in it.text
    if it.type in {"error", "warning"} and not of_a_form:
        wrong.append(it.text)
