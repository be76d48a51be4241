"""The timeline in a real browser, beside jobs that run."""

import time
from datetime import datetime

from playwright.sync_api import expect

from tests.support.browser import Visits, shoot
from tests.support.service import LONG, TINY, Service

_SLOW = LONG | {"width": 128, "height": 128}
_SEEN_SECONDS = 1.5  # more than a bar of ten minutes must have to be one by itself


def run_for_a_while(service: Service) -> str:
    """Return the id of a job that has run for longer than what can just be seen, and was cancelled."""
    job_id: str = service.submit(_SLOW)["id"]
    running = service.wait(job_id, lambda job: job["started_at"] is not None)
    began = datetime.fromisoformat(running["started_at"]).timestamp()
    service.wait(job_id, lambda _: time.time() - began > _SEEN_SECONDS)
    service.client.post(f"/v1/jobs/{job_id}/cancel")
    service.wait(job_id)
    return job_id


def test_a_job_appears_runs_and_ends_without_a_reload(service: Service, visits: Visits) -> None:
    page = visits.open("/timeline?span=10m")
    page.evaluate("window.before = true")
    expect(page.locator(".track")).to_have_count(1)
    job = service.submit(_SLOW)
    bar = page.locator(f'.bars a[href="/jobs/{job["id"]}"]')
    expect(bar.locator("rect.running")).to_be_visible()
    bar.hover()
    expect(page.locator("#told")).to_contain_text("has run for")
    service.client.post(f"/v1/jobs/{job['id']}/cancel")
    expect(bar.locator("rect.cancelled")).to_be_visible()
    assert page.evaluate("window.before"), "it was loaded anew"


def test_bars_are_walked_by_keyboard_and_lead_to_their_jobs(service: Service, visits: Visits) -> None:
    first, second = (run_for_a_while(service) for _ in range(2))
    page = visits.open("/timeline?span=10m")
    page.locator(".head a").focus()
    page.keyboard.press("Tab")
    newest = page.locator(f'.bars a[href="/jobs/{second}"]')
    expect(newest).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(f'.bars a[href="/jobs/{first}"]')).to_be_focused()
    expect(page.locator("#told")).to_contain_text(f"{first}, attempt 1")
    shoot(page, "timeline")
    page.keyboard.press("r")
    expect(page.locator("#live")).to_have_text("Live")
    page.keyboard.press("End")
    expect(newest).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{second}")


def test_time_is_gone_through(service: Service, visits: Visits) -> None:
    service.wait(service.submit(TINY)["id"])
    page = visits.open("/timeline")
    expect(page.get_by_role("link", name="1 hour")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Earlier").click()
    expect(page.get_by_text("0 attempts on 1 GPU")).to_be_visible()
    page.get_by_role("link", name="6 hours").click()
    expect(page.get_by_role("link", name="6 hours")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Now", exact=True).click()
    expect(page.locator(".bars a").first).to_be_visible()
    page.locator(".head a").click()
    expect(page.get_by_role("link", name="All GPUs")).to_be_visible()


def test_on_a_phone_nothing_sticks_out(service: Service, visits: Visits) -> None:
    shoot(visits.open("/timeline", phone=True), "timeline-phone")
