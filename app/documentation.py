"""What is added to the document that FastAPI makes: errors by code, examples, headers, keys, links and webhooks."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from app import examples, refusals
from app.door import PUBLIC
from app.openapi import problem_answer
from app.problems import PROBLEM_JSON
from app.receivers import webhooks
from app.schemas import Problem

_JSON = "application/json"
_EVENTS = "text/event-stream"
_IMAGE_TYPES = "image/png, image/jpeg, image/webp"
_SCHEMAS = "#/components/schemas/"
_METHODS = frozenset({"get", "post", "put", "patch", "delete"})
_SAFE_METHODS = frozenset({"get"})
TAGS = [
    {
        "name": "jobs",
        "description": "A job turns an image and a prompt into a video: submit it, wait for it, download what it made.",
    },
    {"name": "videos", "description": "The same jobs in OpenAI's Videos format, for its clients."},
    {"name": "models", "description": "What is served, what it accepts, and what a job would need."},
    {"name": "account", "description": "The caller's own tenant: its limits, and what it uses of them."},
    {"name": "webhooks", "description": "Who is told what becomes of jobs, and what has become of each message."},
    {"name": "admin", "description": "For the operator alone: GPUs, the queue, and the log of what happened."},
    {"name": "health", "description": "Whether the service lives, and would run a job."},
]
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key. A service on which no key was ever made needs none, and listens on loopback only.",
}
_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_HEADERS: Mapping[str, Any] = {
    "X-Request-Id": {
        "description": "Names the request in the server's log; a client may send its own",
        "schema": _TEXT,
    },
    "ETag": {"description": "Changes when what is answered does", "schema": _TEXT},
    "Location": {"description": "Where the job is", "schema": _TEXT},
    "Idempotent-Replayed": {
        "description": "The job was made by an earlier request with this key",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {"description": "When to ask again, in seconds", "schema": _COUNT},
    "RateLimit-Policy": {"description": "The tenant's limits, where it has any: quota and window", "schema": _TEXT},
    "RateLimit": {"description": "What is left, and when all is, or one where none is", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to say who calls", "schema": _TEXT},
    "Content-Range": {"description": "Which bytes these are", "schema": _TEXT},
    "Accept-Ranges": {"description": "Parts may be asked for", "schema": {"type": "string", "enum": ["bytes"]}},
}
_WAITING = frozenset({429, 503})  # answers that say when to ask again
_TAGGED = frozenset({"get_job", "submit_job", "retry_job", "cancel_job"})
_FILES = frozenset({"get_image", "get_video", "get_thumbnail", "get_preview", "download_video"})
_FILE_REQUEST_HEADERS: Mapping[str, str] = {
    "Range": "Which bytes to send",
    "If-Range": "Send them only if the file still has this tag, else all of it",
    "If-None-Match": "Answer 304 if the file still has this tag",
}
_HEADER_NAMES = {
    name.lower(): name for name in ("Idempotency-Key", "If-None-Match", "Last-Event-ID", *_FILE_REQUEST_HEADERS)
}
# Of one event: OpenAPI has no words for a stream of them before 3.2.
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["status", "progress"]},
        "id": {"type": "string", "pattern": r"^\d+-\d+$"},
        "data": {"type": "string", "contentMediaType": _JSON},
    },
    "required": ["event", "id", "data"],
}
_KEY_FORM = {"pattern": r"^[\x20-\x7e]{1,255}$"}
_ID = {"pattern": r"^(job|we|msg)_[0-9a-hjkmnp-tv-z]{26}$"}
_TIME = {"format": "date-time"}
# What routes check of their parameters by themselves, to say in their own words what is wrong.
_FORMS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("list_jobs", "cursor"): _ID,
    ("list_jobs", "q"): {"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
    ("list_jobs", "created_after"): _TIME,
    ("list_jobs", "created_before"): _TIME,
    ("get_costs", "since"): _TIME,
    ("get_costs", "until"): _TIME,
    ("list_samples", "since"): _TIME,
    ("list_samples", "until"): _TIME,
    ("get_timeline", "since"): _TIME,
    ("get_timeline", "until"): _TIME,
    ("get_advice", "since"): _TIME,
    ("get_advice", "until"): _TIME,
    ("list_videos", "after"): _ID,
    ("list_webhooks", "cursor"): _ID,
    ("list_webhook_deliveries", "cursor"): _ID,
    ("list_webhook_deliveries", "job"): _ID,
    **{(name, "Idempotency-Key"): _KEY_FORM for name in ("submit_job", "retry_job", "retry_jobs", "create_video")},
}
_OF_A_JOB = (
    "get_job", "follow_job", "cancel_job", "retry_job", "delete_job", "get_image", "get_video", "get_thumbnail",
    "get_preview", "patch_job", "preempt_job",
)  # fmt: skip
_OF_A_VIDEO = ("retrieve_video", "download_video", "delete_video")
_OF_A_GPU = ("get_gpu", "drain_gpu", "resume_gpu")
_OF_A_MODEL = ("get_model", "hold_model", "release_model")
# Operation and status → the parameter that its answer has the value of, where, and the operations to go on with.
_LINKS: Mapping[tuple[str, int], tuple[str, str, tuple[str, ...]]] = {
    ("submit_job", 202): ("job_id", "/id", _OF_A_JOB),
    ("retry_job", 202): ("job_id", "/id", _OF_A_JOB),
    ("list_jobs", 200): ("job_id", "/data/0/id", _OF_A_JOB),
    ("create_video", 200): ("video_id", "/id", _OF_A_VIDEO),
    ("list_videos", 200): ("video_id", "/data/0/id", _OF_A_VIDEO),
    ("list_models", 200): ("model", "/data/0/id", _OF_A_MODEL),
    ("list_gpus", 200): ("gpu_id", "/data/0/id", _OF_A_GPU),
    ("list_webhooks", 200): ("endpoint_id", "/data/0/id", ("enable_webhook",)),
    ("list_webhook_deliveries", 200): (
        "delivery_id", "/data/0/id", ("get_webhook_delivery", "redeliver_webhook")
    ),
}  # fmt: skip


def complete(made: dict[str, Any], *, longest_wait_seconds: float) -> None:
    """Complete the document `made`."""
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["headers"] = dict(_HEADERS)
    components["securitySchemes"] = {"key": _KEY}
    made["security"] = [{"key": []}]
    made["webhooks"] = webhooks(schemas)
    for path, method, operation in _operations(made):
        _complete(operation, is_public=path in PUBLIC, changes=method not in _SAFE_METHODS)
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "wait":
                parameter["schema"]["maximum"] = longest_wait_seconds
                parameter["example"] = min(30.0, longest_wait_seconds)


def _operations(made: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                yield path, method, operation


def _complete(operation: dict[str, Any], *, is_public: bool, changes: bool) -> None:
    name, responses = operation["operationId"], operation["responses"]
    if _JSON in responses.get("422", {}).get("content", {}):
        del responses["422"]  # FastAPI's own, for any parameter; ours is a problem, and stands where it can happen
    if is_public:
        operation["security"] = []
    _add_problems(responses, name, is_public=is_public, changes=changes)
    _add_parameters(operation)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        content["examples"] = _named(examples.of_body(name, kind))
        if kind == "multipart/form-data":
            files = [
                field for field, schema in content["schema"]["properties"].items() if schema.get("format") == "binary"
            ]
            content["encoding"] = {field: {"contentType": _IMAGE_TYPES} for field in files}
    for status, answer in responses.items():
        if int(status) < HTTPStatus.MULTIPLE_CHOICES:
            _add_answer_examples(name, answer)
        _add_headers(answer, name, int(status), is_public=is_public)
    for (source, status), (parameter, where, targets) in _LINKS.items():
        if source == name:
            responses[str(status)]["links"] = {
                target: {"operationId": target, "parameters": {parameter: f"$response.body#{where}"}}
                for target in targets
            }
    operation["responses"] = dict(sorted(responses.items()))


def _add_problems(responses: dict[str, Any], name: str, *, is_public: bool, changes: bool) -> None:
    codes = [
        *refusals.RAISED.get(name, ()),
        *(refusals.WITH_A_KEY if not is_public else ()),
        *(refusals.CHANGING if changes else ()),
        *refusals.EVERYWHERE,
    ]
    for code in dict.fromkeys(codes):
        refusal = refusals.REFUSALS[code]
        answer = responses.setdefault(str(refusal.status), problem_answer(refusal.status))
        shown = answer["content"][PROBLEM_JSON].setdefault("examples", {})
        shown[code] = {"value": refusal.example(code)}


def _add_parameters(operation: dict[str, Any]) -> None:
    name, parameters = operation["operationId"], operation.setdefault("parameters", [])
    if name in _FILES:
        parameters += [
            {"name": header, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for header, text in _FILE_REQUEST_HEADERS.items()
        ]
    for parameter in parameters:
        parameter["name"] = _HEADER_NAMES.get(parameter["name"], parameter["name"])
        schema = parameter["schema"]
        if "anyOf" in schema:  # with null, which means that it is left out: there is none in a query or a header
            parameter["schema"] = schema = {**schema["anyOf"][0], "title": schema["title"]}
        schema.update(_FORMS.get((name, parameter["name"]), {}))
        example = examples.of_parameter(name, parameter["name"])
        if example is not None:
            parameter["example"] = example
    if not parameters:
        del operation["parameters"]


def _add_answer_examples(name: str, answer: dict[str, Any]) -> None:
    for kind, content in answer.get("content", {}).items():
        if kind == _EVENTS:
            content["schema"] = _EVENT
        reference = content.get("schema", {}).get("$ref", "")
        found = examples.of_answer(name, reference.removeprefix(_SCHEMAS) or None)
        if found and kind in (_JSON, _EVENTS):
            content["examples"] = _named(found)


def _add_headers(answer: dict[str, Any], name: str, status: int, *, is_public: bool) -> None:
    headers = ["X-Request-Id"]
    if not is_public:
        headers += ["RateLimit-Policy", "RateLimit"]
    if status in _WAITING or (name, status) == ("delete_video", 409):
        headers.append("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append("WWW-Authenticate")
    if status < HTTPStatus.BAD_REQUEST and (name in _TAGGED or name in _FILES):
        headers.append("ETag")
    if name in _FILES and status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        headers.append("Accept-Ranges")
    if name in _FILES and status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        headers.append("Content-Range")
    if status == HTTPStatus.ACCEPTED:
        headers.append("Location")
    if status == HTTPStatus.ACCEPTED or (name, status) == ("create_video", 200):
        headers.append("Idempotent-Replayed")
    named = {header: {"$ref": f"#/components/headers/{header}"} for header in headers}
    answer["headers"] = named | answer.get("headers", {})


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in values.items()}
