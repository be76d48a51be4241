"""A denoising run on disk: its latents, and a fingerprint of everything they depend on.

The file is a safetensors file with one tensor, `latents`. Reading one trusts nothing in it: it may be cut short, be of
another run, or have been made to do harm.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

from scheduler.plans import PLANS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.pipelines.i2vgen_xl import Run, Snapshot
    from workers.pipelines.request import GenerationRequest

FORMAT = 1

_DTYPES = {"float32": "F32", "float16": "F16"}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 64 * 1024


class CheckpointUnusable(ValueError):
    """The run cannot go on from it; one line says why."""


class CheckpointMismatch(CheckpointUnusable):
    """It is of another run, model or version: it names what differs."""


class CheckpointDamaged(CheckpointUnusable):
    """It is not a whole checkpoint."""


class Fingerprint(str):
    """64 hex digits, which two runs share only if one may go on from the other's latents; a digest of `fields`."""

    __slots__ = ("fields",)
    fields: Mapping[str, Any]

    def __new__(cls, fields: Mapping[str, Any]) -> Self:
        """The digest of `fields`, which are plain JSON values."""
        made = super().__new__(cls, _sha256(_json(fields)))
        made.fields = fields
        return made


def fingerprint(
    model_fingerprint: str, request: GenerationRequest, plan: str, *, compiled: bool = False
) -> Fingerprint:
    """The fingerprint of `request` under `plan`. Texts are in it as digests: a checkpoint tells no prompt."""
    return Fingerprint(
        {
            "format": FORMAT,
            "model": model_fingerprint,
            "latents": PLANS[plan].resumes,
            "compiled": compiled,
            "shape": request.shape.key,
            "steps": request.num_inference_steps,
            "guidance_scale": float(request.guidance_scale),
            "fps": request.target_fps,
            "seed": request.seed,
            "prompt": _sha256(request.prompt.encode()),
            "negative_prompt": _sha256((request.negative_prompt or "").encode()) if request.guided else "",
            "torch": version("torch"),
            "diffusers": version("diffusers"),
        }
    )


def dump(snapshot: Snapshot, fingerprint: Fingerprint) -> bytes:
    """The file's bytes: the same for the same snapshot."""
    array = snapshot.latents.numpy()
    body: bytes = array.tobytes()
    metadata = {
        "format": str(FORMAT),
        "fingerprint": str(fingerprint),
        "fields": _json(fingerprint.fields).decode(),
        "step": str(snapshot.step),
        "sha256": _sha256(body),
    }
    latents = {"dtype": _DTYPES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [0, len(body)]}
    header = _json({"__metadata__": metadata, "latents": latents})
    header += b" " * (-len(header) % _LENGTH_BYTES)  # so that the data are aligned
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header + body


def load(data: bytes, fingerprint: Fingerprint, run: Run) -> Snapshot:
    """The snapshot in `data`, of at least one step, which `run` can resume; needs no plan to be loaded.

    Raises CheckpointMismatch for one of another run, CheckpointDamaged for anything that is not a whole checkpoint.
    """
    import torch

    from workers.pipelines.i2vgen_xl import Snapshot

    header, body = _split(data)
    metadata, latents = _object(header, "__metadata__"), _object(header, "latents")
    _check_fingerprint(metadata, fingerprint)
    name = fingerprint.fields["latents"]
    wanted = {"dtype": _DTYPES[name], "shape": list(run.latents_shape), "data_offsets": [0, len(body)]}
    if latents != wanted or len(header) != len(("__metadata__", "latents")):
        raise CheckpointDamaged(f"its latents are {_shown(latents)}, not {_shown(wanted)}")
    if _sha256(body) != metadata.get("sha256"):
        raise CheckpointDamaged("its latents are not those that were saved")
    dtype: torch.dtype = getattr(torch, name)
    expected_bytes = dtype.itemsize * math.prod(run.latents_shape)
    if len(body) != expected_bytes:
        raise CheckpointDamaged(f"its latents have {len(body)} bytes, not {expected_bytes}")
    values = torch.frombuffer(bytearray(body), dtype=dtype).reshape(run.latents_shape)
    if not bool(values.isfinite().all()):
        raise CheckpointDamaged("its latents are not finite")
    return Snapshot(values, _step(metadata, run))


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + size
    if len(data) < _LENGTH_BYTES or size > _MAX_HEADER_BYTES or start > len(data):
        raise CheckpointDamaged(f"it is {len(data)} bytes that do not begin with a header")
    try:
        header = json.loads(data[_LENGTH_BYTES:start])
    except (ValueError, RecursionError) as error:
        raise CheckpointDamaged("its header cannot be read") from error
    if not isinstance(header, dict):
        raise CheckpointDamaged("its header is not an object")
    return header, data[start:]


def _object(header: dict[str, Any], key: str) -> dict[str, Any]:
    value = header.get(key)
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"its header has no {key}")
    return value


def _check_fingerprint(metadata: dict[str, Any], wanted: Fingerprint) -> None:
    if metadata.get("fingerprint") == str(wanted):
        return
    try:
        found = json.loads(metadata["fields"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointDamaged("it does not say of what run it is") from error
    if not isinstance(found, dict):
        raise CheckpointDamaged("it does not say of what run it is")
    differing = [
        f"{name} is {_shown(found.get(name))}, not {_shown(value)}"
        for name, value in wanted.fields.items()
        if found.get(name) != value
    ]
    raise CheckpointMismatch(f"it is of another run: {'; '.join(differing) or 'its fingerprint differs'}")


def _step(metadata: dict[str, Any], run: Run) -> int:
    text = metadata.get("step")
    for step in range(1, run.steps + 1):
        if text == str(step) and run.is_resumable(step):
            return step
    raise CheckpointDamaged(f"its step is {_shown(text)}, and the run has {run.steps}")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _shown(value: object) -> str:
    return reprlib.repr(value)  # bounded in length and depth, whatever the file says
