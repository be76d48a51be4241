import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from app.errors import RequestError
from app.schemas import JobFields
from app.settings import FrontEndSettings
from app.sources import FileSource, UrlSource, source_of_text
from app.submission import fingerprint
from app.uploads import body_limit, typed

SETTINGS = FrontEndSettings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("width", "512", 512),
        ("seed", "+7", 7),
        ("seed", "-1", -1),
        ("guidance_scale", "9", 9.0),
        ("guidance_scale", ".5", 0.5),
        ("guidance_scale", "1e1", 10.0),
        ("priority", "2.", 2.0),
        ("metadata", '{"a": "b"}', {"a": "b"}),
        ("metadata", "{}", {}),
        ("webhook_events", '["a", "b"]', ["a", "b"]),
        ("prompt", " 512 ", " 512 "),
        ("model", "", ""),
    ],
)
def test_form_values(name: str, text: str, value: Any) -> None:
    assert typed([(name, text)]) == {name: value}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("width", "1.0"), ("width", " 1"), ("width", "0x10"), ("width", "true"), ("width", "1e2"), ("width", "٣"),
        ("guidance_scale", "nan"), ("guidance_scale", "Infinity"), ("guidance_scale", "1,5"), ("guidance_scale", "."),
        ("webhook_events", "job.failed"), ("webhook_events", '{"a": "b"}'), ("webhook_events", "[1]"),
        ("metadata", "null"), ("metadata", '{"a": null}'), ("metadata", '{}, "b": {}'),
    ],
)  # fmt: skip
def test_form_values_that_are_none(name: str, text: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        typed([(name, text)])
    assert caught.value.errors()[0]["loc"] == ("body", name)


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(RequestValidationError) as caught:
        typed([("prompt", "a"), ("prompt", "a")])
    assert caught.value.errors()[0]["msg"] == "must be given only once"


def data_uri(head: str) -> str:
    return head + base64.b64encode(b"image").decode()


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "data:;base64,", "DATA:image/png;name=a.png;BASE64,", "data:text/plain;base64,"]
)
def test_data_uris(head: str) -> None:
    assert source_of_text(data_uri(head), SETTINGS, "acme").digest == FileSource(BytesIO(b"image"), SETTINGS).digest


@pytest.mark.parametrize(
    "text", ["", "data:", "data:image/png,abc", "ftp://a/b", " data:;base64,aa", "data:,base64,", "//a/b"]
)
def test_what_is_no_data_uri(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        source_of_text(text, SETTINGS, "acme")
    assert caught.value.code == "unsupported_image_source"


@pytest.mark.parametrize("text", ["data:;base64,a", "data:;base64,aaa", "data:;base64,aa a", "data:;base64,aaaa\n"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        source_of_text(text, SETTINGS, "acme")
    assert caught.value.code == "corrupt_image"


def of(image: bytes = b"image", **fields: Any) -> str:
    return fingerprint(JobFields(prompt="a", **fields), FileSource(BytesIO(image), SETTINGS))


def test_the_fingerprint_is_of_what_was_given() -> None:
    same: Callable[[], str] = lambda: of(width=512)  # noqa: E731  a name for a comparison
    assert same() == same()
    assert len({same(), of(), of(width=520), of(b"other", width=512), of(width=512, seed=1)}) == 5


def test_a_null_is_as_good_as_nothing() -> None:
    assert of(width=None) == of()


def test_both_encodings_have_one_fingerprint() -> None:
    sent = JobFields.model_validate({"prompt": "a", "priority": 2})
    assert fingerprint(sent, source_of_text(data_uri("data:;base64,"), SETTINGS, "acme")) == of(priority=2.0)


def test_a_url_is_vouched_for_as_it_was_given() -> None:
    urls = ["https://a.example/1.png", "https://a.example/2.png"]
    found = {fingerprint(JobFields(prompt="a"), UrlSource(url, SETTINGS, "acme")) for url in urls}
    assert len(found) == 2
    assert fingerprint(JobFields(prompt="a"), source_of_text(urls[0], SETTINGS, "acme")) in found


def test_submissions_may_be_larger_than_other_bodies_and_json_larger_than_forms() -> None:
    limit = body_limit(3_000_000)
    json = limit({"path": "/v1/jobs", "headers": [(b"content-type", b"application/json")]}).max_bytes
    form = limit({"path": "/v1/jobs", "headers": [(b"content-type", b"multipart/form-data")]}).max_bytes
    other = limit({"path": "/v1/estimates", "headers": []}).max_bytes
    assert limit({"path": "/v1/videos", "headers": []}).max_bytes == form
    assert json > 4_000_000
    assert 3_000_000 < form < 3_300_000
    assert other < 300_000
