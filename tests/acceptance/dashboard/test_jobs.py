"""The list of jobs in a real browser, beside a worker that has one job after another."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import Visits, shoot
from tests.support.service import LONG, TINY, Service

SHOWN = "new Promise(shown => document.addEventListener('shown', shown, {once: true}))"


@pytest.fixture
def at_work(service: Service) -> Iterator[list[str]]:
    """A job that runs and two that wait, the newest first; all are cancelled in the end."""
    ids = [service.submit(LONG, prompt=f"a lighthouse, take {number}")["id"] for number in (1, 2, 3)]
    service.wait_denoising(ids[0])
    yield ids[::-1]
    service.client.post("/v1/jobs/cancel", json={"ids": ids})
    for job_id in ids:
        service.wait(job_id)


def row(page: Page, job_id: str) -> Locator:
    return page.locator(f"tr#{job_id}")


def test_it_begins_empty_and_fills_without_a_reload(service: Service, visits: Visits) -> None:
    page = visits.open("/jobs")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    shoot(page, "jobs-empty")
    job = service.submit(TINY, prompt="a first kite")
    expect(row(page, job["id"]).get_by_role("link", name="a first kite")).to_be_visible()
    expect(row(page, job["id"]).locator(".badge")).to_have_text("succeeded")
    expect(row(page, job["id"]).locator("img")).to_have_js_property("complete", value=True)


def test_many_are_cancelled_and_retried_at_once(visits: Visits, at_work: list[str]) -> None:
    page = visits.open("/jobs")
    third, second, first = at_work
    expect(row(page, first).get_by_role("progressbar")).to_be_visible()
    for job_id in (third, first):
        row(page, job_id).get_by_role("checkbox").check()
    page.evaluate(SHOWN)
    bar = page.get_by_role("region", name="Selected jobs")
    expect(bar).to_contain_text("2 jobs selected")
    expect(row(page, third).get_by_role("checkbox")).to_be_checked()
    expect(bar.get_by_role("button", name="Retry")).to_be_disabled()
    shoot(page, "jobs")

    bar.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(page.locator(".toast")).to_have_text("1 cancelled, 1 to stop at the next step")
    expect(bar).to_be_hidden()
    expect(row(page, first).locator(".badge")).to_have_text("cancelled")

    page.get_by_label("Select all jobs on this page").check()
    expect(bar).to_contain_text(re.compile("jobs selected"))
    bar.get_by_role("button", name="Clear the selection").click()
    row(page, third).get_by_role("checkbox").check()
    before = page.locator("tbody tr").count()
    bar.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(page.locator(".toast", has_text="1 submitted again")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(before + 1)
    again = page.locator("tbody tr").first
    again.get_by_role("checkbox").check()
    bar.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(again.locator(".badge")).to_have_text("cancelled")
    assert second in at_work


def test_the_operator_changes_a_priority(service: Service, visits: Visits, at_work: list[str]) -> None:
    page = visits.open("/jobs?status=queued")
    third, second, _ = at_work
    expect(row(page, third)).to_contain_text("number 2 in line")
    row(page, third).get_by_role("button", name="Priority 1").click()
    dialog = page.get_by_role("dialog", name="Change the priority")
    dialog.get_by_label("Priority").fill("101")
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Priority").fill("5")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(row(page, third).get_by_role("button", name="Priority 5")).to_be_visible()
    expect(row(page, second)).to_contain_text("number 2 in line")
    assert service.job(third)["priority"] == 5


def test_rows_are_walked_selected_and_opened_by_keyboard(visits: Visits, at_work: list[str]) -> None:
    page = visits.open("/jobs")
    third, second, _ = at_work
    row(page, third).get_by_role("link", name="take 3").focus()
    page.keyboard.press("ArrowDown")
    expect(row(page, second).get_by_role("link", name="take 2")).to_be_focused()
    page.keyboard.press("Space")
    expect(row(page, second).get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("k")
    expect(row(page, third).get_by_role("checkbox")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{third}")


def test_a_search_and_filters_are_in_the_address(visits: Visits, at_work: list[str]) -> None:
    page = visits.open("/jobs")
    page.keyboard.press("/")
    page.keyboard.type("LIGHTHOUSE 2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs?q=LIGHTHOUSE+2")
    expect(row(page, at_work[1])).to_be_visible()
    expect(row(page, at_work[0])).to_be_hidden()

    page.get_by_text("More filters").click()
    page.get_by_label("Created after").fill("2999-01-01T12:30")
    page.keyboard.press("Enter")
    page.wait_for_url("**created_after=2999-01-01T11%3A30%3A00.000Z")
    expect(page.get_by_label("Created after")).to_have_value("2999-01-01T12:30")
    expect(page.get_by_text("No job matches")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    page.get_by_role("link", name="Running").click()
    page.wait_for_url("**/jobs?status=running")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_on_a_phone_nothing_sticks_out(visits: Visits, at_work: list[str]) -> None:
    page = visits.open("/jobs", phone=True)
    expect(row(page, at_work[0]).locator(".badge")).to_be_visible()
    shoot(page, "jobs-phone")
