"""Submit: a form that tells what a job would take before there is one."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app import presets
from app import schemas as api
from app.access import Caller, Principal, visible
from app.context import Context, Shared
from app.dashboard.rendering import render
from app.dashboard.wording import short
from scheduler.errors import NoModel, NotFound
from scheduler.records import Job
from scheduler.webhooks import DEFAULT_EVENTS, EVENT_TYPES

_NO_MODEL_REFRESH_SECONDS = 5.0
_DAY = 86_400.0
_KEPT = {
    3600.0: "for an hour",
    _DAY: "for a day",
    7 * _DAY: "for 7 days",
    30 * _DAY: "for 30 days",
    90 * _DAY: "for 90 days",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a number, and what its field is called."""

    name: str
    label: str


NUMBERS = (
    Number("width", "Width"),
    Number("height", "Height"),
    Number("num_frames", "Frames"),
    Number("target_fps", "Frame rate"),
    Number("num_inference_steps", "Steps"),
    Number("guidance_scale", "Guidance"),
    Number("seed", "Seed"),
    Number("priority", "Priority"),
)


@router.get("/submit")
def get_submit(
    request: Request, context: Shared, caller: Caller, source: Annotated[str, Query(alias="from")] = ""
) -> Response:
    """Return the form, filled in as the job was that `from` names."""
    models = _models(context)
    if not models:
        return render(
            request, caller, "submit.html", title="Submit", refresh_seconds=_NO_MODEL_REFRESH_SECONDS, models=models
        )
    job, problem = _source(context, caller, source)
    model = next((one for one in models if job and one.id == job.model), models[0])
    if job is not None and model.id != job.model:
        problem = f"No worker serves {job.model} any more: the job would be made by {model.id}."
    return render(
        request,
        caller,
        "submit.html",
        title="Submit",
        models=[(one, one.model_dump_json()) for one in models],
        model=model,
        job=job,
        problem=problem,
        filled=filled(job, model) if job else {},
        numbers=NUMBERS,
        events=tuple(EVENT_TYPES),
        told=tuple(job.webhook_events) if job and job.webhook_url else DEFAULT_EVENTS,
        kept=_kept(context, job),
        off_peak=context.settings.off_peak,
        time_zone=context.settings.off_peak_time_zone,
    )


def filled(job: Job, model: api.Model) -> dict[str, str]:
    """Return the texts of the form's fields that make the job once more; what `model` does anyway is left empty."""
    usual: dict[str, Any] = dict(model.defaults)
    for preset in model.presets:
        if preset.name == job.params.preset:
            usual |= preset.defaults
    values = {name: value for name, value in asdict(job.params).items() if value != usual.get(name)}
    values |= {"prompt": job.prompt, "preset": job.params.preset, "webhook_url": job.webhook_url}
    if job.priority != 1.0:
        values["priority"] = job.priority
    if job.metadata:
        values["metadata"] = json.dumps(dict(job.metadata), ensure_ascii=False)
    return {name: _text(value) for name, value in values.items() if value not in (None, "", False)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _models(context: Context) -> list[api.Model]:
    try:
        return [presets.model(context, served) for served in context.scheduler.queue.models().values()]
    except NoModel:
        return []


def _source(context: Context, caller: Principal, job_id: str) -> tuple[Job | None, str | None]:
    """The job that the form is filled in from, or why there is none."""
    if not job_id:
        return None, None
    try:
        return visible(context, caller, job_id), None
    except NotFound:
        return None, "The job to begin with is not there any more; the form is empty."


def _kept(context: Context, job: Job | None) -> list[tuple[float, str]]:
    """How long a video may be kept as far as the rule here allows, in seconds and in words."""
    settings = context.settings
    longest = (settings.result_days or settings.retention_days) * _DAY
    own = job.result_ttl_seconds if job else None
    offered = _KEPT if own is None else {own: f"for {short(own)}"} | _KEPT
    return sorted((seconds, words) for seconds, words in offered.items() if seconds <= longest)
