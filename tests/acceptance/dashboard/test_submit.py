"""The page Submit in a real browser: from a picture and a prompt to a job."""

import base64
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from app import formats
from app.dashboard.wording import short
from tests.support.browser import Visits, shoot
from tests.support.service import LONG, TINY, Service, picture

DROP = """([selector, data, event]) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], "carried.png", { type: "image/png" }));
    const init = event === "paste" ? { clipboardData: carried } : { dataTransfer: carried };
    const made = event === "paste" ? new ClipboardEvent(event, { ...init, bubbles: true, cancelable: true })
                                   : new DragEvent(event, { ...init, bubbles: true, cancelable: true });
    document.querySelector(selector).dispatchEvent(made);
}"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image file."""
    path = tmp_path / "in.png"
    path.write_bytes(picture())
    return path


@pytest.fixture
def page(visits: Visits) -> Iterator[Page]:
    """The page, with its first quote."""
    opened = visits.open("/submit")
    expect(opened.get_by_role("status").filter(has_text="It would be done")).to_be_visible()
    return opened


def quoted(page: Page, name: str) -> str:
    return page.locator(f'[data-quote="{name}"]').inner_text().partition("\n")[0]


def jobs(service: Service) -> list[dict[str, object]]:
    return list(service.client.get("/v1/jobs").json()["data"])


def fill_in(page: Page, **values: object) -> None:
    for name, value in values.items():
        page.locator(f"#{name}").fill(str(value))


def test_from_a_picture_to_a_job(service: Service, visits: Visits, page: Page, image: Path) -> None:
    visits.expect("status of 404")  # where the job has no page of its own yet
    page.get_by_label("Drop an image here").set_input_files(image)
    expect(page.get_by_alt_text("The chosen image")).to_be_visible()
    expect(page.locator("#image-told")).to_contain_text("160 \N{MULTIPLICATION SIGN} 120 pixels")
    fill_in(page, prompt="a red fox", **{name: value for name, value in TINY.items() if name != "seed"})
    shoot(page, "submit")
    with page.expect_navigation():
        page.get_by_role("button", name="Submit", exact=True).click()
    job = service.job(page.url.rpartition("/")[2])
    assert (job["prompt"], job["params"]["width"], job["params"]["preset"]) == ("a red fox", 64, "standard")
    service.wait(job["id"])


def test_the_quote_follows_the_form(service: Service, page: Page) -> None:
    before = quoted(page, "seconds")
    page.get_by_label("Steps").fill("999")
    expect(page.locator('[data-quote="seconds"]')).not_to_have_text(before)
    told = service.client.post("/v1/estimates", json={"num_inference_steps": 999}).json()
    assert quoted(page, "memory") == formats.size(told["estimate"]["vram_bytes"])
    assert quoted(page, "plan") == told["estimate"]["plan"]
    page.get_by_label("High").check()
    expect(page.get_by_label("Steps")).to_have_attribute("placeholder", "16")


def test_a_value_outside_of_the_limits_is_told_at_its_field(page: Page) -> None:
    page.get_by_label("Width").fill("65")
    expect(page.locator("#width-fault")).to_have_text("Must be divisible by 8, not 65.")
    expect(page.get_by_label("Width")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#verdict")).to_contain_text("cannot be submitted")
    page.get_by_label("Width").fill("4096")
    expect(page.locator("#width-fault")).to_have_text("Must be from 64 to 2048, not 4096.")
    page.get_by_label("Width").fill("64")
    expect(page.locator("#width-fault")).to_be_empty()
    expect(page.locator("#verdict")).to_contain_text("It would be done")


def test_another_model_has_its_own_limits_and_times(service: Service, visits: Visits, page: Page) -> None:
    visits.expect("status of 4")  # the service has no such model
    (model,) = service.client.get("/v1/models").json()["data"]
    model["limits"]["width"] = {"minimum": 512, "maximum": 1024, "multiple_of": 16}
    model |= {"id": "another", "held": "it failed too often", "random_weights": False}
    model["defaults"]["width"] = 768
    option = f'<option value="another" data-model="{escape(json.dumps(model))}">another</option>'

    def add_the_model(route: Route) -> None:
        answer = route.fetch()
        shown = answer.text().replace("<div hidden>", "<div>", 1).replace("</select>", f"{option}</select>", 1)
        route.fulfill(response=answer, body=shown)

    page.route("**/submit", add_the_model)
    page.reload()
    page.get_by_label("Model").select_option("another")
    width = page.get_by_label("Width")
    assert [width.get_attribute(name) for name in ("min", "max", "step", "placeholder")] == ["512", "1024", "16", "768"]
    expect(page.get_by_text("it failed too often")).to_be_visible()
    expect(page.get_by_text("random weights")).to_be_hidden()
    expect(page.locator("#model-fault")).to_contain_text("another")
    width.fill("500")
    expect(page.locator("#width-fault")).to_have_text("Must be from 512 to 1024, not 500.")


def test_what_would_wait_says_why(service: Service, visits: Visits) -> None:
    service.client.post("/v1/admin/queue/pause", json={"reason": "a power cut is coming"})
    try:
        page = visits.open("/submit")
        expect(page.locator('[data-quote="wait"]')).to_contain_text("a power cut is coming")
    finally:
        service.client.post("/v1/admin/queue/resume", json={})


def test_what_no_gpu_can_hold_is_refused_before_it_is_sent(service: Service, page: Page) -> None:
    largest = {"width": 2048, "height": 2048, "num_frames": 256}
    fill_in(page, **largest)
    told = service.client.post("/v1/estimates", json=largest).json()
    assert not told["fits"]
    expect(page.locator("#verdict")).to_contain_text("It would be refused")
    expect(page.locator("#numbers")).to_be_hidden()


def test_what_is_missing_is_asked_for(page: Page) -> None:
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#image-fault")).to_have_text("Choose an image, or name the URL of one.")
    expect(page.locator("#prompt-fault")).to_have_text("Say what should happen.")
    expect(page.locator("#image")).to_be_focused()


def test_the_first_of_several_mistakes_has_the_focus(page: Page, image: Path) -> None:
    page.get_by_label("Drop an image here").set_input_files(image)
    page.get_by_text("More", exact=True).click()
    fill_in(page, width=65, metadata="no JSON")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    expect(page.locator("#width-fault")).not_to_be_empty()
    expect(page.locator("#metadata-fault")).not_to_be_empty()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_may_be_dropped_and_pasted_and_taken_away(page: Page, event: str) -> None:
    page.evaluate(DROP, [".zone", base64.b64encode(picture()).decode(), event])
    expect(page.get_by_alt_text("The chosen image")).to_be_visible()
    expect(page.locator("#image-told")).to_contain_text("carried.png")
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_alt_text("The chosen image")).to_be_hidden()
    assert page.evaluate("document.getElementById('image').files.length") == 0


def test_what_is_no_picture_is_told(page: Page, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(b"no picture")
    page.get_by_label("Drop an image here").set_input_files(tmp_path / "in.png")
    expect(page.locator("#image-fault")).to_have_text("This cannot be read as an image.")


def test_a_lost_connection_and_a_second_press_make_one_job(
    service: Service, visits: Visits, page: Page, image: Path
) -> None:
    visits.expect("status of 404|ERR_FAILED|ERR_CONNECTION")
    before = len(jobs(service))
    keys: list[str] = []

    def lose_the_answer(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()  # the service has made the job
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/jobs", lose_the_answer)
    page.get_by_label("Drop an image here").set_input_files(image)
    fill_in(page, prompt="once", **TINY)
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The connection was lost")
    with page.expect_navigation():
        page.get_by_role("button", name="Submit", exact=True).click()
    assert keys[0] == keys[1]
    assert len(jobs(service)) == before + 1


def test_a_refused_submission_is_told_at_its_fields(visits: Visits, page: Page, image: Path) -> None:
    visits.expect("status of 422")
    page.get_by_label("Drop an image here").set_input_files(image)
    fill_in(page, prompt="a fox")
    page.get_by_text("More", exact=True).click()
    fill_in(page, webhook_url="https://10.0.0.1/hook")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#webhook_url-fault")).not_to_be_empty()
    expect(page.get_by_label("Webhook")).to_be_focused()
    fill_in(page, webhook_url="", metadata="[1]")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#metadata-fault")).to_contain_text("must be a JSON object")
    expect(page.locator("#webhook_url-fault")).to_be_empty()


def test_a_url_goes_as_json_and_its_refusal_to_its_field(visits: Visits, page: Page) -> None:
    visits.expect("status of 422")
    page.get_by_text("From a URL instead").click()
    fill_in(page, image_url="https://127.0.0.1/in.png", prompt="a fox")
    with page.expect_request("**/v1/jobs") as sent:
        page.get_by_role("button", name="Submit", exact=True).click()
    body = sent.value.post_data_json
    assert (body["image"], body["prompt"]) == ("https://127.0.0.1/in.png", "a fox")
    expect(page.locator("#image_url-fault")).not_to_be_empty()


def test_again_with_changes(service: Service, visits: Visits) -> None:
    visits.expect("status of 404")
    first = service.submit(TINY | {"num_inference_steps": 2}, prompt="a blue fox", negative_prompt="rain", priority="2")
    page = visits.open(f"/submit?from={first['id']}")
    expect(page.get_by_alt_text("The chosen image")).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a blue fox")
    page.get_by_label("Steps").fill("1")
    with page.expect_navigation():
        page.get_by_role("button", name="Submit", exact=True).click()
    second = service.job(page.url.rpartition("/")[2])
    assert second["id"] != first["id"]
    assert second["params"] == first["params"] | {"num_inference_steps": 1}
    assert (second["prompt"], second["priority"]) == ("a blue fox", 2.0)


def test_by_keyboard_alone(service: Service, visits: Visits, page: Page, image: Path) -> None:
    visits.expect("status of 404")
    page.locator("#image").set_input_files(image)
    page.locator("#image").focus()
    walked = []
    for _ in range(16):
        page.keyboard.press("Tab")
        walked.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
    wanted = ["prompt", "negative_prompt", "preset", "width", "height", "num_frames", "target_fps"]
    assert [name for name in walked if name in wanted] == wanted
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.type("by keyboard")
    with page.expect_navigation():
        page.keyboard.press("Control+Enter")
    job_id = page.url.rpartition("/")[2]
    assert service.job(job_id)["prompt"] == "by keyboard"
    service.client.post(f"/v1/jobs/{job_id}/cancel")
    service.wait(job_id)


def test_on_a_phone_nothing_sticks_out(visits: Visits) -> None:
    page = visits.open("/submit", phone=True)
    expect(page.locator("#verdict")).to_contain_text("It would be done")
    shoot(page, "submit-phone")


def test_numbers_are_written_as_on_the_server(page: Page) -> None:
    module = page.locator('script[src$="submit.js"]').get_attribute("src")
    assert module is not None
    write = """async ([module, name, values]) => {
        const formats = await import(new URL("formats.js", new URL(module, location.href)));
        return values.map(formats[name]);
    }"""
    seconds = [0, 0.04, 0.96, 1, 4.4, 59.4, 59.6, 60, 125.4, 3599.7, 3600, 7 * 3600, 172_800, 1e6]
    sizes = [0, 1, 1023, 1024, 5_000_000, 2**30, 2.5e10]
    sums = [0, 0.00001, 0.0001, 0.00123456, 0.0421, 0.5, 1, 12.345, 999.999, 1234567.891]
    for name, values, same in (
        ("duration", seconds, short),
        ("size", sizes, formats.size),
        ("money", sums, formats.money),
    ):
        assert page.evaluate(write, [module, name, values]) == [same(value) for value in values]


def test_a_running_queue_moves_the_expected_start(service: Service, page: Page) -> None:
    expect(page.locator('[data-quote="start"]')).to_have_text("at once")
    running = service.submit(LONG)
    service.wait_denoising(running["id"])
    page.get_by_label("Priority").fill("1.5")  # asks anew
    expect(page.locator('[data-quote="start"]')).not_to_have_text("at once")
    service.client.post(f"/v1/jobs/{running['id']}/cancel")
    service.wait(running["id"])
