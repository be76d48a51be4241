"""The GPUs in a real browser: looked at, chosen, drained and resumed, beside jobs that run."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Visits, shoot
from tests.support.service import LONG, Service, wait_for

_SLOW = LONG | {"width": 128, "height": 128}


@pytest.fixture(autouse=True)
def undone(service: Service) -> Iterator[None]:
    """Leave the GPU active, the queue open, and nothing running."""
    yield
    for job in service.client.get("/v1/jobs").json()["data"]:
        service.client.post(f"/v1/jobs/{job['id']}/cancel")
    service.client.post("/v1/admin/queue/resume")
    service.client.post("/v1/admin/resume", json={"gpus": [service.gpu()["id"]]})
    wait_for(lambda: not service.gpu()["leases"], "its jobs to be gone", service.log)


def fill(page: Page, reason: str) -> None:
    page.get_by_role("dialog").get_by_label("Reason").fill(reason)


def test_a_drain_is_forecast_and_done_and_undone_without_a_reload(service: Service, visits: Visits) -> None:
    job = service.submit(_SLOW)
    service.wait_denoising(job["id"])
    page = visits.open("/gpus")
    page.evaluate("window.before = true")
    gpu = page.locator("article.gpu")
    expect(gpu.get_by_role("link", name=job["id"][-6:])).to_be_visible()
    gpu.get_by_role("button", name="Drain").click()

    dialog = page.get_by_role("dialog", name=f"Drain {service.gpu()['id']}")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.locator("[data-preview]")).to_contain_text(f"{job['id'][-6:]} finishes in")
    dialog.get_by_label("Deadline, in").fill("0.05")
    expect(dialog.locator("[data-preview]")).to_be_empty()
    dialog.get_by_label("is killed at once").check()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.locator("[data-preview]")).to_contain_text("is killed in 3 s and goes back to the queue")
    dialog.get_by_label("Deadline, in").fill("")
    expect(dialog.get_by_label("is killed at once")).to_be_hidden()
    dialog.get_by_label("stop at their next step").check()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.locator("[data-preview]")).to_contain_text("goes back to the queue in")
    shoot(page, "gpus-drain")
    fill(page, "new fans")
    dialog.get_by_role("button", name="Drain", exact=True).click()

    expect(dialog).to_be_hidden()
    expect(gpu.get_by_text("new fans")).to_be_visible()
    expect(gpu.locator(".badge").first).to_have_text("drained", timeout=30_000)  # when its process is gone
    assert service.job(job["id"])["status"] == "queued"
    gpu.get_by_role("button", name="Resume").click()
    expect(gpu.locator(".badge").first).to_have_text("active")
    assert page.evaluate("window.before"), "it was loaded anew"


def test_what_cannot_be_is_said_in_the_dialog(service: Service, visits: Visits) -> None:
    visits.expect("status of 422")
    page = visits.open("/gpus")
    page.locator("article.gpu").get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Drain", exact=True).click()
    assert dialog.get_by_label("Reason").evaluate("one => one.validity.valueMissing")
    fill(page, "new fans")
    dialog.get_by_label("Deadline, in").fill("0")
    dialog.get_by_role("button", name="Drain", exact=True).click()
    expect(dialog.get_by_label("Deadline, in")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Deadline, in").fill("5")
    dialog.get_by_label("Resume by itself at").fill("2020-01-31T12:00")
    dialog.get_by_role("button", name="Drain", exact=True).click()
    assert dialog.get_by_label("Resume by itself at").evaluate("one => one.validationMessage") == "This time is over."
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert service.gpu()["state"] == "active"


def test_some_are_found_and_chosen(service: Service, visits: Visits) -> None:
    page = visits.open("/gpus?as=list")
    row = page.locator("tr.gpu")
    expect(row).to_have_count(1)
    find = page.get_by_label("Find GPUs")
    page.keyboard.press("/")
    expect(find).to_be_focused()
    find.fill("no such thing")
    expect(row).to_be_hidden()
    expect(page.get_by_text("No GPU is so")).to_be_visible()
    page.reload()
    expect(find).to_have_value("no such thing")
    expect(row).to_be_hidden()
    find.fill("CPU tiny" if "tiny" in row.inner_text() else "CPU")
    expect(row).to_be_visible()
    page.get_by_label("State", exact=True).select_option("drained")
    expect(row).to_be_hidden()
    page.get_by_label("State", exact=True).select_option("active")

    drain = page.get_by_role("button", name="Drain the chosen")
    expect(drain).to_be_disabled()
    page.get_by_label("All that are shown").check()
    expect(page.locator("#count")).to_have_text("1 chosen")
    page.keyboard.press("r")
    expect(page.locator("#live")).to_have_text("Live")
    expect(row.get_by_role("checkbox")).to_be_checked()
    drain.click()
    fill(page, "moving house")
    page.get_by_role("dialog").get_by_role("button", name="Drain", exact=True).click()
    page.get_by_label("State", exact=True).select_option("")
    expect(row.get_by_text("moving house")).to_be_visible()
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Resume the chosen").click()
    expect(row.locator(".badge").first).to_have_text("active")
    page.get_by_role("link", name="Cards").click()
    expect(page.locator("article.gpu")).to_be_visible()
    assert "q=CPU" in page.url


def test_the_queue_is_paused_and_goes_on(service: Service, visits: Visits) -> None:
    page = visits.open("/gpus")
    page.get_by_role("button", name="Pause the queue").click()
    fill(page, "stock taking")
    page.get_by_role("dialog").get_by_role("button", name="Pause", exact=True).click()
    queue = page.locator("#queue")
    expect(queue.get_by_text("stock taking")).to_be_visible()
    job = service.submit()
    details = queue.get_by_text("What waits, by the memory that it needs")
    details.click()
    expect(queue.get_by_role("row")).to_have_count(2)
    page.keyboard.press("r")
    expect(queue.get_by_role("row").last).to_be_visible()
    shoot(page, "gpus-paused")
    page.get_by_role("button", name="Resume the queue").click()
    expect(page.get_by_role("button", name="Pause the queue")).to_be_visible()
    service.wait(job["id"])


def test_one_gpu_over_time(service: Service, visits: Visits) -> None:
    service.wait(service.submit()["id"])
    page = visits.open("/gpus")
    page.get_by_role("link", name=service.gpu()["id"]).click()
    expect(page.get_by_role("heading", name=service.gpu()["id"])).to_be_visible()
    expect(page.get_by_role("img", name="Memory, last 1 hour: now")).to_be_visible()
    chart = page.locator(".readable .chart").first
    width, height = (chart.bounding_box() or {})["width"], 75
    chart.hover(position={"x": width - 4, "y": height})
    expect(page.locator(".readout").first).to_have_text(
        re.compile(r"^[\d:]+: .+ in use, .+ promised to models and jobs")
    )
    page.mouse.move(0, 0)
    expect(page.locator(".readout").first).to_be_hidden()
    page.get_by_role("link", name="7 days").click()
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("row", name="gpu registered")).to_be_visible()
    shoot(page, "gpu")
    page.get_by_role("button", name="Drain").click()
    fill(page, "a new power supply")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="a new power supply").first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("row", name="gpu active").first).to_contain_text("a new power supply")


@pytest.mark.parametrize("path", ["/gpus?as=cards", "/gpus?as=list", "/gpus/{gpu}"])
def test_on_a_phone_nothing_sticks_out(service: Service, visits: Visits, path: str) -> None:
    name = path.replace("/", "").replace("?as=", "-").replace("{gpu}", "-one")
    shoot(visits.open(path.format(gpu=service.gpu()["id"]), phone=True), f"{name}-phone")
