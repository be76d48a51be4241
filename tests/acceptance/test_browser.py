"""A real browser plays what the service serves."""

import pytest

from tests.support.browser import chromium, needs_chromium
from tests.support.service import TINY, Service

pytestmark = [pytest.mark.acceptance, needs_chromium]
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
    with chromium() as browser:
        page = browser.new_page()
        page.goto(job["video"]["url"])
        played = page.evaluate(PLAY)
    assert played == {"width": 64, "height": 64, "duration": 0.5, "ended": True, "error": None}
