"""Signing in: a service with keys shows its pages to nobody without one, and each key what it may see."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from scheduler.keys import Scope
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings
from tests.support.browser import Visits, shoot
from tests.support.service import Service


@pytest.fixture(scope="module")
def keys(service: Service) -> Iterator[dict[str, str]]:
    """Make keys in the service's own database, as `reelq keys create` does."""
    with Scheduler.open(StoreSettings(data_dir=service.data_dir)) as scheduler:
        yield {
            name: scheduler.keys.create(name, tenant=tenant, scopes=scopes, actor="test")[1]
            for name, tenant, scopes in (
                ("operator", "default", frozenset(Scope)),
                ("reader", "acme", frozenset({Scope.READ})),
            )
        }


def test_a_stranger_is_asked_for_a_key_and_led_back(keys: dict[str, str], visits: Visits) -> None:
    visits.expect("status of 401")
    page = visits.open("/?from=afar")
    expect(page).to_have_title("Sign in · reelq")
    shoot(page, "sign-in")

    page.get_by_label("API key").fill("rq_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This key is unknown, revoked or expired.")

    page.get_by_label("API key").fill(keys["operator"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert page.url.endswith("/?from=afar")


def test_a_reader_sees_its_own_and_no_operator_pages(keys: dict[str, str], visits: Visits) -> None:
    visits.expect("status of 403")
    page = visits.open("/", key=keys["reader"])
    views = page.get_by_role("navigation").get_by_role("link")
    assert views.all_inner_texts() == ["Overview", "Jobs"]
    expect(page.get_by_text("Nothing runs")).to_be_visible()
    page.goto("/gpus")
    expect(page.get_by_text("scope admin")).to_be_visible()
    shoot(page, "refused")


def test_signing_out_ends_the_session(keys: dict[str, str], visits: Visits) -> None:
    page = visits.open("/", key=keys["operator"])
    cookies = page.context.cookies()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in · reelq")
    page.context.add_cookies(cookies)  # type: ignore[arg-type]  # what it gave
    page.goto("/")
    page.wait_for_url("**/sign-in**")
