"""A real browser that looks at the service's pages, and tells of everything that went wrong in them."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package `chromium` brings one")

# Nothing but the page: a browser at rest asks its maker for many things.
_QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
_PATIENCE_MS = 20_000  # the machine may be busy with other tests
_DESK, _PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser; not while an event loop runs in the thread."""
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *_QUIET])
        try:
            yield browser
        finally:
            browser.close()


class Visits:
    """Opens pages of one service. `faults` are what no page may do: errors in the console, requests to elsewhere."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._host = urlsplit(url).netloc
        self._contexts: list[BrowserContext] = []
        self._expected: list[str] = []
        self.faults: list[str] = []

    def open(self, path: str = "/", *, theme: str = "light", phone: bool = False, key: str | None = None) -> Page:
        """Return a page in a browser of its own, signed in with `key` where one is given; it may be asked for more."""
        context = self._browser.new_context(
            base_url=self._url,
            viewport=_PHONE if phone else _DESK,  # type: ignore[arg-type]  # its ViewportSize is just this
            color_scheme="dark" if theme == "dark" else "light",
            locale="en-GB",
            timezone_id="Europe/Berlin",
            accept_downloads=True,
        )
        context.set_default_timeout(_PATIENCE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._blame(f"error in a script: {error}"))
        page.on("request", self._request)
        if key is not None:
            page.goto("/sign-in")
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/")
        page.goto(path)
        return page

    def expect(self, pattern: str) -> None:
        """Let a fault pass that matches `pattern`: a refusal that the test provokes, say."""
        self._expected.append(pattern)

    def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            context.close()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._blame(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.netloc != self._host:
            self._blame(f"a request to elsewhere: {request.url}")

    def _blame(self, fault: str) -> None:
        if not any(re.search(pattern, fault) for pattern in self._expected):
            self.faults.append(fault)


def shoot(page: Page, name: str) -> None:
    """Keep a picture of the whole page, as it is in the light and in the dark, and check that nothing sticks out."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.evaluate("scrollTo(0, 0)")  # or the bar would stand in the middle of the picture
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]  # one of its literals
        page.screenshot(path=SCREENSHOTS / f"{name}-{theme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert too_wide <= 0, f"{name} is {too_wide} px wider than the window"
