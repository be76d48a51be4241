"""A folder that holds I2VGen-XL in the published layout: find it, check it, name what is wrong with it.

    model_index.json
    unet/ vae/                     config.json, diffusion_pytorch_model[.fp16].safetensors
    text_encoder/ image_encoder/   config.json, model[.fp16].safetensors
    tokenizer/ feature_extractor/ scheduler/   their JSON and text files

Reads headers, never whole weights, and needs no torch: the scheduler's side can ask how large a model is.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_INDEX = "model_index.json"
PIPELINE_CLASS = "I2VGenXLPipeline"

_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "image_encoder": "model",
}
_CLASSES = {
    "unet": "I2VGenXLUNet",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "image_encoder": "CLIPVisionModelWithProjection",
}
_CONFIGS = {
    "unet": ("config.json",),
    "vae": ("config.json",),
    "text_encoder": ("config.json",),
    "image_encoder": ("config.json",),
    "tokenizer": ("tokenizer_config.json", "vocab.json", "merges.txt"),
    "feature_extractor": ("preprocessor_config.json",),
    "scheduler": ("scheduler_config.json",),
}
# The limit of the safetensors library itself.
_MAX_HEADER_BYTES = 100_000_000
# A fingerprint reads this many pieces of each weights file, so that two fine-tunes of one shape differ.
_SAMPLES, _SAMPLE_BYTES = 16, 4096
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class ModelFolderError(ValueError):
    """The model is not there, or not usable: one line that says what is wrong and where."""


@dataclass(frozen=True)
class ModelFolder:
    """A checked folder.

    `variant` is the infix of the weights' file names (`fp16`) or None, `weights_bytes` the size of all
    tensors that will be loaded, `fingerprint` 16 hex digits that change with the configs, the tensors' names,
    shapes and dtypes, and (by samples) with their values.
    """

    name: str
    path: Path
    variant: str | None
    weights_bytes: int
    fingerprint: str


def locate(model: str, *, models_dir: Path) -> ModelFolder:
    """The checked folder for `model`: a directory, or a hub id such as `ali-vilab/i2vgen-xl`.

    A hub id is looked up in `models_dir`, then in the user's Hugging Face cache, and only then downloaded,
    into `models_dir`. Raises ModelFolderError.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return inspect(path)
    if path.exists():
        raise ModelFolderError(f"model {model} is a file, not a folder")
    if not _HUB_ID.fullmatch(model):
        raise ModelFolderError(f"model {model}: no such folder, and not a hub id (owner/name)")
    return _cached(model, models_dir) or _download(model, models_dir)


def inspect(path: Path, name: str | None = None) -> ModelFolder:
    """Check the folder at `path` and describe it as `name` (by default the path). Raises ModelFolderError."""
    if not path.is_dir():
        raise ModelFolderError(f"model folder {path}: {'a file, not a folder' if path.exists() else 'not there'}")
    _check_index(path)
    digest = hashlib.sha256()
    for part, files in _CONFIGS.items():
        if not (path / part).is_dir():
            raise ModelFolderError(f"model folder {path}: {part}/ is missing")
        for file in files:
            digest.update(f"{part}/{file}\0".encode() + _read_config(path / part / file) + b"\0")
    variant = _variant(path)
    weights_bytes = 0
    for part in _WEIGHTS:
        weights_bytes += _read_weights(_weights_file(path, part, variant), digest)
    return ModelFolder(name or str(path), path, variant, weights_bytes, digest.hexdigest()[:16])


def _check_index(path: Path) -> None:
    index_file = path / MODEL_INDEX
    if not index_file.is_file():
        raise ModelFolderError(f"model folder {path}: not a diffusers model, {MODEL_INDEX} is missing")
    index = _parse_object(index_file, index_file.read_bytes())
    if index.get("_class_name") != PIPELINE_CLASS:
        raise ModelFolderError(f"{index_file}: _class_name is {index.get('_class_name')!r}, not {PIPELINE_CLASS!r}")
    for part, expected in _CLASSES.items():
        entry = index.get(part)
        found = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
        if found != expected:
            raise ModelFolderError(f"{index_file}: {part} is {found!r}, not {expected!r}")


def _read_config(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ModelFolderError(f"model file {file} is missing") from None
    except OSError as error:
        raise ModelFolderError(f"model file {file} cannot be read: {error.strerror}") from error
    if file.suffix == ".json":
        _parse_object(file, content)
    return content


def _parse_object(file: Path, content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        raise ModelFolderError(f"model file {file} is not JSON") from None
    if not isinstance(parsed, dict):
        raise ModelFolderError(f"model file {file} is not a JSON object")
    return parsed


def _weights_file(path: Path, part: str, variant: str | None) -> Path:
    infix = f".{variant}" if variant else ""
    return path / part / f"{_WEIGHTS[part]}{infix}.safetensors"


def _variant(path: Path) -> str | None:
    """`fp16` where every part has it, else None where every part has the plain file."""
    for variant in ("fp16", None):
        if all(_weights_file(path, part, variant).is_file() for part in _WEIGHTS):
            return variant
    some_fp16 = any(_weights_file(path, part, "fp16").is_file() for part in _WEIGHTS)
    variant = "fp16" if some_fp16 else None
    part = next(part for part in _WEIGHTS if not _weights_file(path, part, variant).is_file())
    pickles = sorted(file.name for pattern in ("*.bin", "*.ckpt") for file in (path / part).glob(pattern))
    also = f"; {pickles[0]} is a pickle, which is never loaded" if pickles else ""
    raise ModelFolderError(f"model file {_weights_file(path, part, variant)} is missing{also}")


def _read_weights(file: Path, digest: hashlib._Hash) -> int:
    """Check one safetensors file, add it to `digest`, and return the bytes of its tensors."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, size - 8):
                raise ModelFolderError(f"model file {file} is truncated or not safetensors")
            header = stream.read(header_bytes)
            tensor_bytes = _tensor_bytes(file, header)
            expected = 8 + header_bytes + tensor_bytes
            if size != expected:
                what = "truncated" if size < expected else "too long"
                raise ModelFolderError(f"model file {file} is {what}: {size} bytes of {expected}")
            digest.update(f"{file.name}\0{size}\0".encode() + header)
            for sample in range(_SAMPLES):
                stream.seek(8 + header_bytes + tensor_bytes * sample // _SAMPLES)
                digest.update(stream.read(_SAMPLE_BYTES))
    except OSError as error:
        raise ModelFolderError(f"model file {file} cannot be read: {error.strerror}") from error
    return tensor_bytes


def _tensor_bytes(file: Path, header: bytes) -> int:
    """The end of the last tensor, from the start of the data (`data_offsets` in the safetensors format)."""
    tensors = _parse_object(file, header)
    tensors.pop("__metadata__", None)
    try:
        return max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    except (KeyError, IndexError, TypeError, ValueError):
        raise ModelFolderError(f"model file {file} has a damaged header") from None


def _cached(hub_id: str, models_dir: Path) -> ModelFolder | None:
    """The model from a local cache, or None where no cache has it whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for cache_dir in (models_dir, None):
        try:
            path = snapshot_download(hub_id, cache_dir=cache_dir, local_files_only=True)
            return inspect(Path(path), name=hub_id)
        except (LocalEntryNotFoundError, ModelFolderError):
            continue
    return None


def _download(hub_id: str, models_dir: Path) -> ModelFolder:
    """Download configs and fp16 weights, or plain weights where there is no fp16. Never a pickle."""
    from huggingface_hub import snapshot_download

    configs = [MODEL_INDEX, *(f"{part}/{pattern}" for part in _CONFIGS for pattern in ("*.json", "*.txt"))]
    for infix in (".fp16", ""):
        weights = [f"{part}/{stem}{infix}.safetensors" for part, stem in _WEIGHTS.items()]
        try:
            path = Path(snapshot_download(hub_id, cache_dir=models_dir, allow_patterns=[*configs, *weights]))
        except (OSError, ValueError, RuntimeError) as error:
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelFolderError(
                f"model {hub_id} is not on this machine and cannot be downloaded: {first_line}"
            ) from error
        _check_index(path)
        if all(_weights_file(path, part, "fp16").is_file() for part in _WEIGHTS):
            break
    return inspect(path, name=hub_id)
