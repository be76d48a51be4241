"""Submitting a job."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app import schemas as api
from app.access import Caller, Principal
from app.context import Context, Shared
from app.forms import invalid
from app.openapi import problems, submission_body
from app.sources import FileSource, source_of_text
from app.submission import check_key, in_thread, respond, submit
from app.uploads import Body, body_of, checked, typed

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    response_model=api.Job,
    responses=problems(400, 403, 408, 413, 415, 422, 429, 503, 507),
    openapi_extra=submission_body(),
)
async def submit_job(
    request: Request,
    context: Shared,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Response:
    """Take an image and a prompt and answer with a queued job: it is on disk when this answers.

    Saying it again with the same `Idempotency-Key` answers with the same job and `Idempotent-Replayed: true`.
    """
    check_key(idempotency_key)
    async with body_of(request, context.settings) as body:
        return await in_thread(context, caller, partial(_submit, request, context, caller, body, idempotency_key))


def _submit(request: Request, context: Context, caller: Principal, body: Body, idempotency_key: str | None) -> Response:
    if body.is_form:
        values = typed(body.fields)
        as_text = values.pop("image", None)
        asked = checked(lambda: api.JobFields.model_validate(values))
        if body.file is None:
            kind, words = ("missing", "") if as_text is None else ("file", "must be a file part, with a filename")
            raise invalid("image", kind, words)
        return respond(
            request, context, submit(context, caller, asked, FileSource(body.file, context.settings), idempotency_key)
        )
    whole = checked(lambda: api.JobRequest.model_validate(dict(body.fields)))
    asked = api.JobFields.model_validate(whole.model_dump(exclude={"image"}, exclude_unset=True))
    source = source_of_text(whole.image, context.settings, caller.tenant)
    return respond(request, context, submit(context, caller, asked, source, idempotency_key))
