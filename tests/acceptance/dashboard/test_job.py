"""A job's page in a real browser."""

from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, Route, expect

from tests.support.browser import Visits, shoot
from tests.support.service import LONG, TINY, Service

# Long enough to be playing still when it is looked at.
_PLAYABLE = TINY | {"num_frames": 16}


def _tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


def press(page: Page, name: str) -> None:
    """Press one of the job's buttons, and say yes."""
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()


def test_a_job_is_followed_stopped_for_now_and_cancelled(service: Service, visits: Visits) -> None:
    job = service.submit(LONG, prompt="a castle at dawn")
    page = visits.open(f"/jobs/{job['id']}")
    page.evaluate("window.before = true")
    expect(page.locator(".stages [aria-current=step]")).to_contain_text("Denoising")
    shoot(page, "job-running")

    waiting = service.submit(LONG, prompt="a castle at noon", priority=100)
    other = visits.open(f"/jobs/{waiting['id']}")
    expect(other.get_by_role("heading", name="Why it waits")).to_be_visible()
    shoot(other, "job-queued")

    page.get_by_role("button", name="Stop for now").click()
    dialog = page.get_by_role("dialog", name="Stop for now")
    dialog.get_by_label("Reason").fill("for the other castle")
    dialog.get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("heading", name="Why it waits")).to_be_visible()
    expect(page.get_by_text("for the other castle")).to_be_visible()
    expect(page.get_by_role("table").get_by_text("released")).to_be_visible()
    expect(other.get_by_role("heading", name="Progress")).to_be_visible()

    for one in (page, other):
        press(one, "Cancel")
        expect(one.locator(".titled .badge")).to_have_text("cancelled")
    assert page.evaluate("window.before"), "it was loaded anew"


def test_a_video_comes_plays_on_and_is_downloaded(service: Service, visits: Visits) -> None:
    service.client.post("/v1/admin/queue/pause", json={"reason": "until somebody looks"})
    job = service.submit(_PLAYABLE, prompt="a train in the snow")
    page = visits.open(f"/jobs/{job['id']}")
    expect(page.get_by_text("the queue is paused (until somebody looks)")).to_be_visible()
    service.client.post("/v1/admin/queue/resume")
    service.wait(job["id"])
    video = page.locator("video")
    expect(video).to_be_visible()
    expect(video).to_have_js_property("loop", value=True)
    page.evaluate("document.querySelector('video').play()")
    video.evaluate("(video) => { video.ours = true }")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Predicted and measured")).to_be_visible()
    assert video.evaluate("(video) => video.ours && !video.paused && video.duration > 0"), "a refresh has stopped it"
    video.evaluate("(video) => video.pause()")
    shoot(page, "job-succeeded")

    page.get_by_label("Loop").uncheck()
    page.reload()
    expect(video).to_have_js_property("loop", value=False)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == f"{job['id']}.mp4"


def test_its_id_and_a_command_are_copied(service: Service, visits: Visits) -> None:
    job = service.submit(TINY)
    page = visits.open(f"/jobs/{job['id']}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for number, expected in enumerate((job["id"], "curl -fsS")):
        page.get_by_role("button", name="Copy").nth(number).click()
        expect(page.locator(".toast", has_text="Copied").nth(number)).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()").startswith(expected)


def test_a_cancelled_job_is_retried_and_deleted(service: Service, visits: Visits) -> None:
    visits.expect("status of 404")
    job = service.submit(TINY, prompt="once more", not_before=_tomorrow())
    page = visits.open(f"/jobs/{job['id']}")
    press(page, "Cancel")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: "/jobs/job_" in url and job["id"] not in url)
    page.get_by_role("link", name=job["id"]).click()
    press(page, "Delete")
    page.wait_for_url("**/jobs")
    page.goto(f"/jobs/{job['id']}")
    expect(page.get_by_role("heading", name="Not Found")).to_be_visible()


def test_a_retry_whose_answer_was_lost_is_made_once(service: Service, visits: Visits) -> None:
    visits.expect("Failed to load resource")
    job = service.submit(TINY, prompt="only once", not_before=_tomorrow())
    service.client.post(f"/v1/jobs/{job['id']}/cancel")
    page = visits.open(f"/jobs/{job['id']}")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/retry", lose, times=1)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".toast.bad")).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: "/jobs/job_" in url and job["id"] not in url)
    found = service.client.get("/v1/jobs", params={"q": "only once"}).json()["data"]
    assert [one["retry_of"] for one in found] == [job["id"], None]


def test_on_a_phone_nothing_sticks_out(service: Service, visits: Visits) -> None:
    job = service.wait(service.submit(TINY, prompt="a " + "very " * 200 + "long prompt")["id"])
    page = visits.open(f"/jobs/{job['id']}", phone=True)
    expect(page.locator("video")).to_be_visible()
    shoot(page, "job-phone")
