"""A real web process, and a real browser that fails the test if a page does what it must not."""

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
from tests.integration.http.auth.conftest import Web, serve
from tests.processes import HOST, NO_CERTIFICATES, processes
from tests.system.browser.browser import pages
from tests.system.browser.chromium import ARGUMENTS, chromium
from tests.wait import PATIENCE as SLOW_MACHINE
from tests.wait import until

PATIENCE = 45_000
"""Milliseconds that a page may take on a slow and loaded machine."""
expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Site:
    """The address of the dashboard, which needs no sign-in, and the service behind it."""

    url: str
    service: Service


@pytest.fixture
async def web(empty_service: Service) -> AsyncIterator[Web]:
    """Serve an empty service with the test pages."""
    async with serve(empty_service) as web:
        web.app.include_router(pages)
        yield web


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
    """Start a web process and yield its address."""
    async with processes(migrated.servers, tmp_path_factory.mktemp("web")) as started:
        process = await started.web(rate_limit_burst=1_000_000)
        yield f"http://{HOST}:{process.port}"


@pytest.fixture
async def site(service: Service, web_process: str) -> Site:
    """Return a site without customers. The invariants are checked after the test."""

    async def is_open() -> bool:
        # The process may still remember for a moment that an earlier test had users.
        async with httpx.AsyncClient(timeout=SLOW_MACHINE, verify=NO_CERTIFICATES) as http:
            return (await http.get(web_process)).status_code == HTTPStatus.OK

    await until(is_open)
    return Site(web_process, service)


@pytest.fixture
async def tab(site: Site, browser: Browser) -> AsyncIterator[Page]:
    """Open a tab. The test fails if a page logs an error or loads anything from another host."""
    size = ViewportSize(width=1300, height=900)
    context = await browser.new_context(
        base_url=site.url,
        viewport=size,
        locale="en-US",
        timezone_id="America/Chicago",
        reduced_motion="reduce",  # text that fades in has too little contrast for the checks
    )
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: _note_error(message, wrong))
    page.on("request", lambda request: _note_other_host(request.url, site, wrong))
    yield page
    await context.close()
    assert wrong == []


def _note_other_host(url: str, site: Site, wrong: list[str]) -> None:
    if urlsplit(url).netloc != urlsplit(site.url).netloc:
        wrong.append(f"asked {url}")


def _note_error(message: ConsoleMessage, wrong: list[str]) -> None:
    # Chromium logs every form that is refused or does not get through. Tests do that on purpose.
    url = message.location["url"]
    forms = ("/customers/", "/settings", "/operations/")
    from_form = any(each in url for each in forms) and "Failed to load resource" in message.text
    if message.type in {"error", "warning"} and not from_form:
        wrong.append(message.text)
