"""The peer: the stock I2VGenXLPipeline of diffusers, one job at a time, mended only where it is broken."""

from __future__ import annotations

import contextlib
import gc
import time
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLUNet
from diffusers.pipelines.deprecated.i2vgen_xl.pipeline_i2vgen_xl import I2VGenXLPipeline
from transformers import CLIPImageProcessorPil, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from workers.calibration import picture, sample
from workers.pipelines import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.gpu.rows import Row
    from scheduler.plans import Precision

_FEW, _MORE = 2, 6  # steps of two runs, whose difference is that of the steps alone


class Stock:
    """The pipeline on `device` in `precision`, its weights loaded from the folder that the worker loads."""

    def __init__(self, path: Path, variant: str | None, device: torch.device, precision: Precision) -> None:
        self._device = device
        dtype = getattr(torch, precision.value)
        ours: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "variant": variant}
        text_encoder = CLIPTextModel.from_pretrained(path / "text_encoder", dtype=dtype, **ours)
        # transformers 5 took this attribute away, and the pipeline still asks for it.
        text_encoder.__dict__["text_model"] = SimpleNamespace(final_layer_norm=text_encoder.final_layer_norm)
        self._pipeline = I2VGenXLPipeline(
            vae=AutoencoderKL.from_pretrained(path / "vae", torch_dtype=dtype, **ours),
            text_encoder=text_encoder,
            tokenizer=CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True),
            image_encoder=CLIPVisionModelWithProjection.from_pretrained(path / "image_encoder", dtype=dtype, **ours),
            feature_extractor=CLIPImageProcessorPil.from_pretrained(path / "feature_extractor", local_files_only=True),
            unet=I2VGenXLUNet.from_pretrained(path / "unet", torch_dtype=dtype, **ours),
            scheduler=DDIMScheduler.from_pretrained(path / "scheduler", local_files_only=True),
        ).to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    def row(self, row: Row, repeats: int) -> dict[str, Any]:
        """Measure jobs of `row` by runs of few steps; medians of the seconds, and the allocator's peak."""
        self._seconds(row, _FEW)
        few, more = (median(self._seconds(row, steps, number) for number in range(repeats)) for steps in (_FEW, _MORE))
        memory = runtime.device_memory(self._device)
        step = (more - few) / (_MORE - _FEW)
        job_seconds = more + (row.steps - _MORE) * step
        return {
            "shape": row.shape.key,
            "step_seconds": step,
            "fixed_seconds": few - _FEW * step,
            "job_seconds": job_seconds,
            "jobs_per_hour": 3600 / job_seconds,
            "reserved_bytes": None if memory is None else memory.peak_reserved_bytes,
        }

    def _seconds(self, row: Row, steps: int, number: int = 0) -> float:
        request = sample(row.shape, steps=steps, number=number)
        image = picture(request)
        runtime.reset_peak(self._device)
        started = time.perf_counter()
        self._pipeline(
            prompt=request.prompt,
            image=image,
            width=row.side,
            height=row.side,
            num_frames=row.num_frames,
            num_inference_steps=steps,
            guidance_scale=request.guidance_scale,
            target_fps=request.target_fps,
            generator=torch.Generator("cpu").manual_seed(number),
            output_type="np",
        )
        runtime.synchronize(self._device)
        return time.perf_counter() - started


def release(device: torch.device) -> None:
    """Give back what a pipeline that nobody refers to any more has left."""
    gc.collect()
    runtime.empty_cache(device)


def quieten() -> None:
    """Have the libraries say nothing but errors: the pipeline is deprecated, and says so each time."""
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


@contextlib.contextmanager
def as_it_comes(device: torch.device) -> Iterator[None]:
    """Undo what a worker sets for the sake of equal bytes: the peer promises none, and may be faster without."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    try:
        yield
    finally:
        runtime.configure(device)
