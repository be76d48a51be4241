"""How long a browser takes until it has loaded a page, scripts and styles included."""

import shutil
import statistics
from collections.abc import Mapping

_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
_WAITS = "document.querySelector('main > section[aria-busy=true]') !== null"  # for a report that takes long


def browser_loads(url: str, paths: Mapping[str, str], repeats: int) -> Mapping[str, float] | None:
    """Return by name the median seconds from asking for a path to its load event, or until its report is there too.

    None where there is no Chromium. Each is loaded in a browser with an empty cache.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.sync_api import Browser, sync_playwright

    def load(browser: Browser, path: str) -> float:
        # The pages allow no script but their own, which is how Playwright waits.
        context = browser.new_context(viewport={"width": 1360, "height": 900}, bypass_csp=True)
        try:
            page = context.new_page()
            page.goto(url.rstrip("/") + path, wait_until="load")
            page.wait_for_function(f"{_LOADED} > 0")
            if page.evaluate(_WAITS):
                page.wait_for_function(f"!({_WAITS})")
                return float(page.evaluate("performance.now() / 1000"))
            return float(page.evaluate(_LOADED))
        finally:
            context.close()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            return {
                name: statistics.median(load(browser, path) for _ in range(repeats)) for name, path in paths.items()
            }
        finally:
            browser.close()
