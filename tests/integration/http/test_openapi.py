"""The documentation is complete, and true of itself; that the service keeps to it, test_fuzz.py shows."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from app.alarms import view
from app.door import PUBLIC
from app.refusals import RAISED, REFUSALS
from app.schemas import AlertPayload
from app.signing import signed_headers
from app.webhooks import payload
from scheduler.alarm import Alert
from scheduler.alerts import Rule
from scheduler.fan_out import Told
from scheduler.records import JobError
from scheduler.states import JobStatus
from tests.support.http import Site

PROBLEM = "application/problem+json"


@pytest.fixture
async def document(site: Site) -> dict[str, Any]:
    answer = await site.client.get("/openapi.json")
    return dict(answer.json())


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for methods in document["paths"].values() for one in methods.values()}


def examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Where each example is, the schema that it must follow, and the example."""
    for name, operation in operations(document).items():
        for parameter in operation.get("parameters", ()):
            yield f"{name} {parameter['name']}", parameter["schema"], parameter.get("example")
        contents = dict(operation.get("requestBody", {}).get("content", {}))
        for status, answer in operation["responses"].items():
            contents |= {f"{status} {kind}": content for kind, content in answer.get("content", {}).items()}
        for where, content in contents.items():
            for title, example in content.get("examples", {}).items():
                yield f"{name} {where} {title}", content["schema"], example["value"]


async def test_every_operation_is_documented(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= tags, name
    assert RAISED.keys() <= operations(document).keys()


async def test_every_call_and_every_answer_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for parameter in operation.get("parameters", ()):
            assert "example" in parameter, (name, parameter["name"])
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            assert content["examples"], (name, kind)
        for status, answer in operation["responses"].items():
            for kind, content in answer.get("content", {}).items():
                assert content.get("examples") or kind.startswith(("video/", "image/")), (name, status, kind)


async def test_every_example_follows_its_schema(document: dict[str, Any]) -> None:
    seen = 0
    for where, schema, example in examples(document):
        whole = {**schema, "components": document["components"]}
        errors = [error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(example)]
        assert not errors, (where, errors)
        seen += 1
    assert seen > 200


async def test_each_error_is_a_problem_with_its_codes(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                continue
            assert list(answer["content"]) == [PROBLEM], (name, status)
            assert answer["content"][PROBLEM]["schema"]["$ref"].endswith("/Problem")
            for code, example in answer["content"][PROBLEM]["examples"].items():
                assert (example["value"]["code"], str(example["value"]["status"])) == (code, status)
                assert REFUSALS[code].status == int(status)


async def test_all_but_the_public_calls_need_a_key(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{"key": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert (operation.get("security") == []) == (path in PUBLIC), path
            assert ("401" in operation["responses"]) == (path not in PUBLIC), path


async def test_headers_are_documented_where_they_come(document: dict[str, Any]) -> None:
    found = operations(document)
    accepted = found["submit_job"]["responses"]["202"]["headers"]
    assert {"Location", "ETag", "Idempotent-Replayed", "RateLimit", "X-Request-Id"} <= accepted.keys()
    assert "Retry-After" in found["submit_job"]["responses"]["429"]["headers"]
    assert "WWW-Authenticate" in found["get_job"]["responses"]["401"]["headers"]
    assert "Content-Range" in found["get_video"]["responses"]["206"]["headers"]
    for operation in found.values():
        for answer in operation["responses"].values():
            for header in answer["headers"].values():
                if "$ref" in header:
                    assert header["$ref"].rpartition("/")[2] in document["components"]["headers"]


async def test_links_lead_to_operations_with_such_a_parameter(document: dict[str, Any]) -> None:
    found = operations(document)
    links = [
        link
        for operation in found.values()
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) > 30
    for link in links:
        names = {parameter["name"] for parameter in found[link["operationId"]]["parameters"]}
        assert link["parameters"].keys() <= names, link


async def test_a_submission_is_documented_in_both_encodings(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    for one in content.values():
        assert {"image", "prompt"} <= set(one["schema"]["required"])
        assert {"num_frames", "preset", "allow_int8"} <= set(one["schema"]["properties"])


async def test_the_longest_wait_is_the_settings_one(document: dict[str, Any], site: Site) -> None:
    (wait,) = (one for one in document["paths"]["/v1/jobs/{job_id}"]["get"]["parameters"] if one["name"] == "wait")
    assert wait["schema"]["maximum"] == site.settings.max_wait_seconds


async def test_references_lead_somewhere(site: Site) -> None:
    text = (await site.client.get("/openapi.json")).text
    document = (await site.client.get("/openapi.json")).json()
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


async def test_webhooks_are_documented_with_what_is_really_sent(document: dict[str, Any]) -> None:
    failed = Told("job.failed", 1.0, "job_1", JobStatus.FAILED, "m", {"shot": "12"}, JobError("x", "y"), False, False)
    done = Told("job.succeeded", 1.0, "job_1", JobStatus.SUCCEEDED, "m", {}, None, has_video=True, has_preview=True)
    alert = Alert("alert_1", Rule.DISK_LOW, "h/blobs", "it is low", 1.0, 2.0, since=1.0, fired_at=2.0, resolved_at=3.0)
    sent = {
        "job": [payload("https://videos.example", done), payload(None, done), payload(None, failed)],
        "alert": [AlertPayload(type="alert.resolved", timestamp="t", data=view(alert)).model_dump_json()],
    }
    assert document["webhooks"].keys() == sent.keys()
    for name, bodies in sent.items():
        operation = document["webhooks"][name]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        whole = jsonschema.Draft202012Validator({**content["schema"], "components": document["components"]})
        for one in [*(example["value"] for example in content["examples"].values()), *map(json.loads, bodies)]:
            assert not list(whole.iter_errors(one)), (name, one)
        assert list(whole.iter_errors({"type": "job.unknown"}))
        headers = {parameter["name"] for parameter in operation["parameters"]}
        assert headers == set(signed_headers(["whsec_YWFh"], "msg_1", 1, b"{}"))
        assert operation["operationId"] not in operations(document)
