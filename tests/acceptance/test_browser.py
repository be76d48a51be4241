"""A real browser plays what the service serves."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.support.service import TINY, Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package `chromium` brings one"),
]
# Nothing but the page: a browser at rest asks its maker for many things.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
PLAY = """async () => {
    const video = document.querySelector('video');
    video.muted = true;
    const ended = new Promise(resolve => { video.onended = resolve; video.onerror = resolve; });
    await video.play();
    await ended;
    return {width: video.videoWidth, height: video.videoHeight, duration: video.duration,
            ended: video.ended, error: video.error && video.error.message};
}"""


def test_the_video_plays_to_its_end(service: Service) -> None:
    job = service.wait(service.submit(TINY | {"num_frames": 4, "target_fps": 8})["id"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *QUIET])
        try:
            page = browser.new_page()
            page.goto(job["video"]["url"])
            played = page.evaluate(PLAY)
        finally:
            browser.close()
    assert played == {"width": 64, "height": 64, "duration": 0.5, "ended": True, "error": None}
