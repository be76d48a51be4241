"""The overview in a real browser, beside jobs that run."""

from playwright.sync_api import Page, expect

from tests.support.browser import Visits, shoot
from tests.support.service import LONG, TINY, Service

_SLOW = LONG | {"width": 128, "height": 128}


def tile(page: Page, name: str) -> str:
    """Return what stands in the tile of this name."""
    return page.locator(".tile", has=page.locator("dt", has_text=name)).locator("dd").inner_text()


def test_it_follows_a_job_without_a_reload(service: Service, visits: Visits) -> None:
    page = visits.open("/")
    page.evaluate("window.before = true")
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.get_by_text("Idle")).to_be_visible()

    job = service.submit(_SLOW)
    link = page.get_by_role("link", name=job["id"][-6:])
    expect(link).to_be_visible()
    expect(page.get_by_role("progressbar", name=job["id"])).to_be_visible()
    assert tile(page, "Running") == "1"
    shoot(page, "overview")

    service.client.post(f"/v1/jobs/{job['id']}/cancel")
    expect(link).to_be_hidden()
    service.wait(service.submit(TINY)["id"])
    page.keyboard.press("r")
    expect(page.locator(".tile", has_text="Videos, last hour").locator("dd")).to_have_text("1")
    assert page.evaluate("window.before"), "it was loaded anew"


def test_on_a_phone_nothing_sticks_out(visits: Visits) -> None:
    shoot(visits.open("/", phone=True), "overview-phone")
    far_right = visits.open("/costs", phone=True).locator("#nav [aria-current]")
    expect(far_right).to_have_text("Costs")
    expect(far_right).to_be_in_viewport(ratio=1)


def test_it_works_by_keyboard_alone(visits: Visits) -> None:
    page = visits.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_theme_is_kept(visits: Visits) -> None:
    page = visits.open("/")
    ground = "getComputedStyle(document.body.parentElement).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) != light


def test_a_lost_connection_is_told_and_comes_back(visits: Visits) -> None:
    visits.expect("Failed to load resource")
    page = visits.open("/")
    page.context.set_offline(True)
    expect(page.locator("#live")).to_have_attribute("data-state", "lost")
    page.context.set_offline(False)
    page.keyboard.press("r")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")


def test_a_service_that_does_not_answer_is_told_too(visits: Visits) -> None:
    page = visits.open("/")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    page.clock.install()
    page.route("**/", lambda _route: None)  # the connection is there, and nothing comes
    with page.expect_request("**/"):
        page.keyboard.press("r")
    page.clock.fast_forward(60_000)
    expect(page.locator("#live")).to_have_attribute("data-state", "lost")
    page.unroute("**/")
    page.keyboard.press("r")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
