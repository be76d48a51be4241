"""How the API documents itself: what routes say of themselves, and the whole document."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.problems import PROBLEM_JSON
from app.schemas import JobFields, JobRequest

_SCHEMAS = "#/components/schemas/"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return `responses` of a route that may answer these problems; `app.refusals` has their codes."""
    return {status: problem_answer(status) for status in statuses}


def submission_body() -> dict[str, Any]:
    """Return the documentation of the two encodings of a submission."""
    form = JobFields.model_json_schema(ref_template=_SCHEMAS + "{model}")
    form["properties"] = {"image": {"type": "string", "format": "binary"}, **form["properties"]}
    form["properties"]["metadata"] = {"type": "string", "description": "A JSON object of strings"}
    form["required"] = ["image", *form["required"]]
    schemas = {"multipart/form-data": form, "application/json": JobRequest.model_json_schema()}
    return {"requestBody": {"required": True, "content": {kind: {"schema": one} for kind, one in schemas.items()}}}


def operation_id(route: APIRoute) -> str:
    """Return a route's operation id: the name of its function."""
    return route.name


def problem_answer(status: int) -> dict[str, Any]:
    """Return the documentation of a problem with this status."""
    schema = {"$ref": f"{_SCHEMAS}Problem"}
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM_JSON: {"schema": schema}}}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `app`, made at the first call."""
    if app.openapi_schema is None:
        # Late, for its many examples are of no use to a server that nobody asks for the document.
        from app.documentation import TAGS, complete

        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
        )
        complete(made, longest_wait_seconds=app.state.context.settings.max_wait_seconds)
        app.openapi_schema = made
    return app.openapi_schema
