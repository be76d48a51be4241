"""I2VGen-XL at its published size, with random weights: seconds and memory do not depend on their values."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, I2VGenXLUNet
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from workers.pipelines.tiny import make_tiny

if TYPE_CHECKING:
    from pathlib import Path

_UNET: dict[str, Any] = {}  # the class's own defaults are what was published
_VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
# OpenCLIP's ViT-H/14, the text tower without its last layer.
_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
}
_VISION: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}


_STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "image_encoder": "model",
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "unet": {"_class_name": "I2VGenXLUNet", **_UNET},
    "vae": {"_class_name": "AutoencoderKL", **_VAE},
    "text_encoder": {"model_type": "clip_text_model", **_TEXT},
    "image_encoder": {"model_type": "clip_vision_model", **_VISION},
}


def networks() -> dict[str, torch.nn.Module]:
    """Return the networks on the meta device: names and shapes, no values."""
    with torch.device("meta"):
        return {
            "unet": I2VGenXLUNet(**_UNET),
            "vae": AutoencoderKL(**_VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**_TEXT)),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**_VISION)),
        }


def make_full_size(path: Path, device: torch.device) -> None:
    """Make a model folder at `path`, 5 GB in FP16, its values drawn on `device`. Raises OSError.

    Tokenizer and scheduler are the tiny model's.
    """
    make_tiny(path)
    for part, network in networks().items():
        _put(path / part / "config.json", _CONFIGS[part])
        tensors = {name: _drawn(name, tensor.shape, device) for name, tensor in network.state_dict().items()}
        save_file(tensors, path / part / f"{_STEMS[part]}.fp16.safetensors", metadata={"format": "pt"})
    processor = path / "feature_extractor" / "preprocessor_config.json"
    side = _VISION["image_size"]
    sizes = {"crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side}}
    _put(processor, json.loads(processor.read_text()) | sizes)


def _drawn(name: str, shape: torch.Size, device: torch.device) -> torch.Tensor:
    """Values that keep a signal's size from layer to layer, so that no half overflows."""
    if len(shape) < 2 and not name.endswith("class_embedding"):
        return (torch.ones if name.endswith("weight") else torch.zeros)(shape, dtype=torch.float16)
    spread = 1.0 if "embedding" in name.rsplit(".", 2)[-2] else 1 / math.sqrt(math.prod(shape[1:]))
    return (torch.randn(shape, dtype=torch.float16, device=device) * spread).cpu()


def _put(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
