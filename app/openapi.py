"""How the API documents itself: problem answers, and bodies that FastAPI cannot see."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.problems import PROBLEM_JSON
from app.schemas import JobFields, JobRequest, Problem

_SCHEMAS = "#/components/schemas/"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return `responses` of a route that may answer these problems."""
    content = {PROBLEM_JSON: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


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


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `app`, made at the first call."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for operation in (one for path in made["paths"].values() for one in path.values()):
            _forget_fastapis_own_422(operation["responses"])
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        app.openapi_schema = made
    return app.openapi_schema


def _forget_fastapis_own_422(responses: dict[str, Any]) -> None:
    # It is added wherever there is a parameter; ours is a problem, and stands where it can happen.
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
