"""The tiny model: I2VGen-XL's classes and layout, with small random weights. Its videos are noise.

It exists so that every path, the loader included, runs on a CPU in seconds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import shutil
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from diffusers import AutoencoderKL, I2VGenXLUNet
from safetensors.torch import save
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from workers import model_folder
from workers.pipelines import tiny_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 16
_VIEW_PIXELS = 32
_BLOCKS = 4
# Standard deviation of a decoded pixel, where -1 is black and 1 is white: grey noise, hardly clipped.
_PIXEL_SPREAD = 0.5

_UNET = {
    "block_out_channels": [8, 16, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": _WIDTH,
    "attention_head_dim": 1,
}
_VAE = {
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * _BLOCKS,
    "up_block_types": ["UpDecoderBlock2D"] * _BLOCKS,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}
_TEXT = {
    "hidden_size": _WIDTH,
    "intermediate_size": 2 * _WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": tiny_tokenizer.MAX_TOKENS,
    "hidden_act": "gelu",
}
_VISION = {
    "hidden_size": _WIDTH,
    "intermediate_size": 2 * _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": _VIEW_PIXELS,
    "patch_size": 8,
    "projection_dim": _WIDTH,
    "hidden_act": "gelu",
}
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_IMAGE_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": _VIEW_PIXELS, "width": _VIEW_PIXELS},
    "size": {"shortest_edge": _VIEW_PIXELS},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "rescale_factor": 1 / 255,
    "resample": 3,
}
_INDEX = {
    "_class_name": model_folder.PIPELINE_CLASS,
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "I2VGenXLUNet"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def make_tiny(path: Path) -> None:
    """Make the tiny model's folder at `path`: the same bytes every time, and never half a folder.

    A folder there that is the same already is left alone, another model's is replaced. Several processes may do
    this at once. Raises FileExistsError where `path` holds anything but a model.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        _write(fresh)
        _put_in_place(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_in_place(fresh: Path, path: Path) -> None:
    wanted = model_folder.inspect(fresh).fingerprint
    while not _is(path, wanted):
        try:
            fresh.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _clear(path)  # Or another process was quicker: then the next look finds it right.


def _clear(path: Path) -> None:
    stale = path.with_name(f".{path.name}.{uuid4().hex}.old")
    with contextlib.suppress(FileNotFoundError):  # Another process may be clearing it too.
        if all(entry.name != model_folder.MODEL_INDEX for entry in path.iterdir()):
            raise FileExistsError(f"{path} is not a model folder, so the tiny model is not put there")
        path.rename(stale)
        shutil.rmtree(stale)


def _is(path: Path, fingerprint: str) -> bool:
    try:
        return model_folder.inspect(path).fingerprint == fingerprint
    except model_folder.ModelFolderError:
        return False


def _write(path: Path) -> None:
    vocabulary, merges = tiny_tokenizer.vocabulary()
    text = {"vocab_size": len(vocabulary), **_special_ids(vocabulary), **_TEXT}
    with torch.device("meta"):  # Names and shapes only: no memory, and no use of the global random state.
        unet = I2VGenXLUNet(**_UNET)
        vae = AutoencoderKL(**_VAE)
        text_encoder = CLIPTextModel(CLIPTextConfig(**text))
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**_VISION))
    # The published file says `text_model.` where this version of the class has none; the loader takes it off
    # again.
    _write_model(path / "unet", {"_class_name": "I2VGenXLUNet", **_UNET}, "diffusion_pytorch_model", unet)
    _write_model(path / "vae", {"_class_name": "AutoencoderKL", **_VAE}, "diffusion_pytorch_model", vae)
    _write_model(path / "text_encoder", {"model_type": "clip_text_model", **text}, "model", text_encoder, "text_model.")
    _write_model(path / "image_encoder", {"model_type": "clip_vision_model", **_VISION}, "model", image_encoder)
    _write_json(path / "tokenizer/tokenizer_config.json", tiny_tokenizer.tokenizer_config())
    _write_json(path / "tokenizer/vocab.json", vocabulary)
    (path / "tokenizer/merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    _write_json(path / "feature_extractor/preprocessor_config.json", _IMAGE_PROCESSOR)
    _write_json(path / "scheduler/scheduler_config.json", _SCHEDULER)
    _write_json(path / model_folder.MODEL_INDEX, _INDEX)


def _special_ids(vocabulary: dict[str, int]) -> dict[str, int]:
    end = vocabulary[tiny_tokenizer.END_TOKEN]
    return {"bos_token_id": vocabulary[tiny_tokenizer.START_TOKEN], "eos_token_id": end, "pad_token_id": end}


def _write_model(folder: Path, config: dict[str, Any], stem: str, model: Any, prefix: str = "") -> None:
    _write_json(folder / "config.json", config)
    tensors = {
        prefix + name: _weights(f"{folder.name}.{name}", tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    # Not save_file: that makes files no other user can read.
    (folder / f"{stem}.fp16.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))


def _weights(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values that keep a signal's size from layer to layer: 1 / sqrt(fan-in), norms 1, biases 0."""
    if len(shape) < 2 and not name.endswith("class_embedding"):
        return (torch.ones if name.endswith("weight") else torch.zeros)(shape, dtype=torch.float16)
    # A seed per tensor: adding one tensor leaves all others as they were.
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    values = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    fan_in = 1 if "embedding" in name.rsplit(".", 2)[-2] else math.prod(shape[1:])
    gain = _PIXEL_SPREAD if name == "vae.decoder.conv_out.weight" else 1.0
    return (values * gain / math.sqrt(max(fan_in, 1))).to(torch.float16)


def _write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
