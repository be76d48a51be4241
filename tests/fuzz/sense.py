"""Giving generated calls a sense that no schema can: parameters that the model takes, pictures, and ids that there are.

Two in three of the valid ones get it, so that what lies behind the checks is reached too; the others stay as they came.
"""

import base64
import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase
from schemathesis.transport.serialization import Binary

from scheduler import catalog
from scheduler.ids import is_id
from scheduler.states import JobStatus
from tests.fuzz.service import World
from tests.support.fleet import MODEL
from tests.support.http import picture

_PICTURE = picture()
_DATA_URI = f"data:image/png;base64,{base64.b64encode(_PICTURE).decode()}"
_SHARE = 3
_SUBMISSIONS = ("/v1/jobs", "/v1/videos")
_ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
# Of the jobs that a call makes sense for; any for the others.
_STATES: Mapping[str, tuple[JobStatus, ...]] = {
    "patch_job": (JobStatus.QUEUED,),
    "preempt_job": (JobStatus.RUNNING,),
    "retry_job": (JobStatus.FAILED, JobStatus.CANCELLED),
    "delete_job": _ENDED,
    "get_video": (JobStatus.SUCCEEDED,),
    "get_thumbnail": (JobStatus.SUCCEEDED,),
    "get_preview": (JobStatus.SUCCEEDED,),
    "download_video": (JobStatus.SUCCEEDED,),
}
_SIZES = ("width", "height", "num_frames", "num_inference_steps", "guidance_scale", "target_fps", "seed")


class Sense:
    """Changes cases in place."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._turns = itertools.count()
        self._ids: Mapping[str, Callable[[], str | None]] = {
            "gpu_id": lambda: world.gpu.info.id,
            "model": lambda: MODEL.id,
            "endpoint_id": world.some_endpoint,
            "delivery_id": world.some_delivery,
        }

    def give(self, case: Any) -> None:
        """Change what no job could be made of, and ids of nothing."""
        if case.meta.generation.mode is not GenerationMode.POSITIVE or next(self._turns) % _SHARE == 0:
            return
        for name, value in list((case.path_parameters or {}).items()):
            known = self._ids[name]() if name in self._ids else self._job(case)
            linked = case.meta.phase.name is TestPhase.STATEFUL and isinstance(value, str) and is_id(value)
            if known is not None and not linked:
                case.path_parameters[name] = known
        if isinstance(case.body, dict):
            self._give_body(case)
        case._record_starting_state()  # it stays a valid one

    def _job(self, case: Any) -> str | None:
        operation = case.operation.definition.raw["operationId"]
        return self._world.some_job(_STATES.get(operation, ()))

    def _give_body(self, case: Any) -> None:
        if "gpus" in case.body:
            case.body["gpus"] = [self._world.gpu.info.id]
        if case.operation.path in (*_SUBMISSIONS, "/v1/estimates"):
            is_form = case.media_type == "multipart/form-data"
            case.body = _parameters(case.body)
            if "seconds" in case.body or "size" in case.body:  # they say the same
                case.body = {name: value for name, value in case.body.items() if name not in _SIZES}
            if case.operation.path in _SUBMISSIONS:
                case.body |= _submission(case.body, case.operation.path, is_form=is_form)


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    limits = catalog.architecture(MODEL.architecture).limits
    made = {name: value for name, value in body.items() if name not in ("model", "preset")}
    for name in _SIZES:
        if isinstance(made.get(name), int | float):
            limit = getattr(limits, name)
            steps = int((limit.maximum - limit.minimum) // limit.multiple_of) + 1
            made[name] = int(limit.minimum) + int(abs(made[name])) % steps * limit.multiple_of
    return made


def _submission(body: Mapping[str, Any], path: str, *, is_form: bool) -> dict[str, Any]:
    """What stands in the place of the fields that `body` has."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    sensible: dict[str, Any] = {
        "not_before": "2020-02-29T12:00:00Z",
        "deadline": tomorrow,
        "result_ttl_seconds": 3600,
        "webhook_url": "https://hooks.invalid/videos",
        "webhook_events": '["job.running"]' if is_form else ["job.running"],
        "seconds": "1",
        "size": "512x512",
    }
    if is_form:
        sensible["metadata"] = '{"shot": "12"}'
    made = {name: value for name, value in sensible.items() if body.get(name) is not None}
    if "webhook_url" not in made and "webhook_events" in made:
        made["webhook_url"] = sensible["webhook_url"]
    if path == "/v1/jobs":
        return made | {"image": Binary(_PICTURE) if is_form else _DATA_URI}
    return made | {"input_reference": Binary(_PICTURE) if is_form else {"image_url": _DATA_URI}}
