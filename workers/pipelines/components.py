"""The seven parts of I2VGen-XL, loaded one by one from a folder that `workers.model_folder` has checked."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import diffusers
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLUNet
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import torch

    from workers.model_folder import ModelFolder


NETWORKS: dict[str, Any] = {
    "text_encoder": CLIPTextModel,
    "image_encoder": CLIPVisionModelWithProjection,
    "vae": AutoencoderKL,
    "unet": I2VGenXLUNet,
}
"""What has weights, in the order in which it is loaded."""


class WrongWeights(ValueError):
    """A component's weights do not fit its config: a tensor is missing, unknown, or of another shape."""


@dataclass
class Components:
    """Everything the stages need. Networks are in eval mode, without gradients.

    `device` is where they compute; `execution` decides how much of them lies there, and in which precision.
    """

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    # Pillow's, not `CLIPImageProcessor`: that one is torchvision's wherever torchvision happens to be
    # installed.
    image_processor: CLIPImageProcessorPil
    image_encoder: CLIPVisionModelWithProjection
    vae: AutoencoderKL
    unet: I2VGenXLUNet
    scheduler: DDIMScheduler
    device: torch.device
    dtype: torch.dtype


def load_components(folder: ModelFolder, *, device: torch.device, dtype: torch.dtype) -> Components:
    """Load `folder` onto `device` in `dtype`, from safetensors alone and without the network.

    Raises WrongWeights where weights and config disagree, OSError where a file went away since the folder was
    checked.
    """
    networks = {part: load_network(folder, part, dtype).to(device) for part in NETWORKS}
    return assemble(folder, networks, device=device, dtype=dtype)


def assemble(
    folder: ModelFolder, networks: Mapping[str, Any], *, device: torch.device, dtype: torch.dtype
) -> Components:
    """Put the networks of `folder` together with what has no weights."""
    with _quiet():
        return Components(
            tokenizer=CLIPTokenizer.from_pretrained(folder.path / "tokenizer", local_files_only=True),
            image_processor=CLIPImageProcessorPil.from_pretrained(
                folder.path / "feature_extractor", local_files_only=True
            ),
            scheduler=DDIMScheduler.from_pretrained(folder.path / "scheduler", local_files_only=True),
            device=device,
            dtype=dtype,
            **networks,
        )


def load_network(folder: ModelFolder, part: str, dtype: torch.dtype) -> Any:
    """Load one of `NETWORKS` into host memory. Raises as `load_components` does.

    Both libraries fill in what a file lacks and go on; their report says so, and we refuse.
    """
    network = NETWORKS[part]
    options: dict[str, Any] = {"dtype": dtype}
    if issubclass(network, diffusers.ModelMixin):
        options = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    with _quiet():
        model, report = network.from_pretrained(
            folder.path / part,
            variant=folder.variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    _check(part, report)
    return model.eval().requires_grad_(False)


def _check(part: str, report: dict[str, Any]) -> None:
    for fault, key in (
        ("has another shape than the config says", "mismatched_keys"),
        ("is missing", "missing_keys"),
        ("is unknown to the config", "unexpected_keys"),
    ):
        names = _names(report[key])
        if names:
            others = f" ({len(names) - 1} more like it)" if len(names) > 1 else ""
            raise WrongWeights(f"{part}: tensor {names[0]} {fault}{others}")
    if report["error_msgs"]:
        raise WrongWeights(f"{part}: {' '.join(str(report['error_msgs'][0]).split())}")


def _names(entries: Iterable[Any]) -> list[str]:
    """Tensor names in order; a mismatch is reported as (name, shape in the file, shape in the config)."""
    return sorted(entry if isinstance(entry, str) else entry[0] for entry in entries)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and nothing but errors from the libraries' loggers, put back afterwards."""
    loggers = (diffusers.utils.logging, transformers.utils.logging)
    levels = [library.get_verbosity() for library in loggers]
    bars = [library.is_progress_bar_enabled() for library in loggers]
    for library in loggers:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, bar in zip(loggers, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
