import base64
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from app.errors import RequestError
from app.schemas import JobFields
from app.submission import fingerprint
from app.uploads import Upload, _form_value, _from_data_uri, _from_json, body_limit


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
        ("prompt", " 512 ", " 512 "),
        ("model", "", ""),
    ],
)
def test_form_values(name: str, text: str, value: Any) -> None:
    assert _form_value(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("width", "1.0"), ("width", " 1"), ("width", "0x10"), ("width", "true"), ("width", "1e2"), ("width", "٣"),
        ("guidance_scale", "nan"), ("guidance_scale", "Infinity"), ("guidance_scale", "1,5"), ("guidance_scale", "."),
        ("metadata", "null"), ("metadata", '{"a": null}'), ("metadata", '{}, "b": {}'),
    ],
)  # fmt: skip
def test_form_values_that_are_none(name: str, text: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        _form_value(name, text)
    assert caught.value.errors()[0]["loc"] == ("body", name)


def data_uri(head: str) -> str:
    return head + base64.b64encode(b"image").decode()


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "data:;base64,", "DATA:image/png;name=a.png;BASE64,", "data:text/plain;base64,"]
)
def test_data_uris(head: str) -> None:
    assert _from_data_uri(data_uri(head)) == b"image"


@pytest.mark.parametrize(
    "text", ["", "data:", "data:image/png,abc", "https://a/b", " data:;base64,aa", "data:,base64,"]
)
def test_what_is_no_data_uri(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        _from_data_uri(text)
    assert caught.value.code == "unsupported_image_source"


def upload(image: bytes = b"image", **fields: Any) -> Upload:
    return Upload(JobFields(prompt="a", **fields), image)


def test_the_fingerprint_is_of_what_was_given() -> None:
    same: Callable[[], str] = lambda: fingerprint(upload(width=512))  # noqa: E731  a name for a comparison
    assert same() == same()
    others = [upload(), upload(width=520), upload(b"other", width=512), upload(width=512, seed=1)]
    assert len({same(), *map(fingerprint, others)}) == 5


def test_a_null_is_as_good_as_nothing() -> None:
    assert fingerprint(upload(width=None)) == fingerprint(upload())


def test_both_encodings_have_one_fingerprint() -> None:
    body = f'{{"prompt": "a", "priority": 2, "image": "{data_uri("data:;base64,")}"}}'
    assert fingerprint(_from_json(body.encode())) == fingerprint(upload(priority=2.0))


def test_submissions_may_be_larger_than_other_bodies_and_json_larger_than_forms() -> None:
    limit = body_limit(3_000_000)
    json = limit({"path": "/v1/jobs", "headers": [(b"content-type", b"application/json")]}).max_bytes
    form = limit({"path": "/v1/jobs", "headers": [(b"content-type", b"multipart/form-data")]}).max_bytes
    other = limit({"path": "/v1/estimates", "headers": []}).max_bytes
    assert json > 4_000_000
    assert 3_000_000 < form < 3_300_000
    assert other < 300_000
