"""The pages Costs and Advice in a real browser."""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Visits, shoot
from tests.support.service import TINY, Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Service]:
    """A service whose GPU has a price, and two jobs behind it."""
    running = Service(tmp_path_factory.mktemp("service") / "data", models_dir, gpu_hour_cost=3.6, energy_kwh_cost=0.3)
    try:
        running.start()
        for _ in range(2):
            running.wait(running.submit(TINY)["id"])
        yield running
    finally:
        running.close()


def this_week() -> dict[str, str]:
    """Return the query of a period that is read anew each time."""
    today = datetime.now(UTC).date()
    return {"window": "custom", "since": str(today - timedelta(days=7)), "until": str(today)}


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def test_what_was_spent(visits: Visits) -> None:
    page = visits.open("/costs")
    expect(page.locator(".tile", has_text="A video").locator("dd")).to_contain_text("2 videos")
    expect(page.locator("#tenants tfoot")).to_contain_text("Together")
    shoot(page, "costs")
    page.get_by_role("link", name="7 days").click()
    page.wait_for_url("**/costs?window=7d")
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    page.get_by_label("From").fill("2001-01-01")
    page.get_by_label("to", exact=True).fill("2001-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No GPU was online in this time")).to_be_visible()


def test_a_column_sorts_by_its_numbers_and_stays_so(service: Service, visits: Visits) -> None:
    cancelled = service.submit(TINY | {"num_inference_steps": 999, "num_frames": 16})
    service.wait_denoising(cancelled["id"])
    service.client.post(f"/v1/jobs/{cancelled['id']}/cancel")
    service.wait(cancelled["id"])
    page = visits.open(f"/costs?{urlencode(this_week())}")
    by_name = column(page, "outcomes", 1)
    assert by_name == sorted(by_name)
    assert len(by_name) == 2
    heading = page.locator("#outcomes th", has_text="Attempts")
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert column(page, "outcomes", 1) == ["succeeded", "cancelled"]
    page.keyboard.press("r")
    expect(page.locator("#live")).to_have_attribute("data-at", re.compile(":"))
    assert column(page, "outcomes", 1) == ["succeeded", "cancelled"]
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert column(page, "outcomes", 1) == ["cancelled", "succeeded"]


def test_a_table_is_saved_with_its_exact_numbers(service: Service, visits: Visits, tmp_path: Path) -> None:
    page = visits.open(f"/costs?{urlencode(this_week())}")
    with page.expect_download() as saved:
        page.locator("section", has=page.locator("#tenants")).get_by_role("button", name="Download CSV").click()
    assert saved.value.suggested_filename == "costs-tenants.csv"
    saved.value.save_as(tmp_path / "costs.csv")
    (line,) = csv.DictReader((tmp_path / "costs.csv").read_text().splitlines())
    (told,) = service.client.get("/v1/admin/costs", params={"since": "2001-01-01T00:00:00Z"}).json()["tenants"]
    assert line["tenant"] == "default"
    for name in ("videos", "attempts", "gpu_seconds", "cost", "cost_per_video"):
        assert float(line[name]) == pytest.approx(told[name])


def test_what_to_do_about_hardware(service: Service, visits: Visits) -> None:
    page = visits.open("/advice")
    told = service.client.get("/v1/admin/advice", params={"growth": "high"}).json()
    expect(page.get_by_text("What is missing to be sure")).to_be_visible()
    page.get_by_role("combobox", name="Growth").select_option("high")
    page.get_by_label("Price of a card").fill("700")
    page.get_by_label("Price of a card").press("Enter")
    page.wait_for_url("**/advice?window=7d&growth=high&card_price=700")
    verb = told["advice"].partition(":")[0]
    expect(page.locator("#sentence")).to_contain_text(verb)
    expect(page.get_by_role("img", name="growth is high")).to_be_visible()
    expect(page.locator(".flow li")).to_have_count(4)
    shoot(page, "advice")


def test_on_a_phone_nothing_sticks_out(visits: Visits) -> None:
    costs = visits.open("/costs", phone=True)
    expect(costs.locator("#tenants")).to_be_visible()
    shoot(costs, "costs-phone")
    advice = visits.open("/advice", phone=True)
    expect(advice.locator("#sentence")).to_be_visible()
    shoot(advice, "advice-phone")
