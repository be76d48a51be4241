"""From plan to plan: what is kept where, in what precision, and that nothing is lost or doubled on the way."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.movers import RecordingMover
from tests.support.plan_runs import SMALL_PIECE, run
from workers import model_folder
from workers.pipelines import components, execution
from workers.pipelines.components import NETWORKS
from workers.pipelines.execution import Execution
from workers.pipelines.quantize import QuantizationUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from workers.model_folder import ModelFolder
    from workers.pipelines.request import GenerationRequest

HALF_PLANS = ["fp16", "fp16-chunked", "fp16-offload", "fp16-streamed"]


@pytest.fixture(scope="module")
def folder(tiny_path: Path) -> ModelFolder:
    return model_folder.inspect(tiny_path, name="tiny")


@pytest.fixture
def mover() -> RecordingMover:
    return RecordingMover()


@pytest.fixture
def held(folder: ModelFolder, mover: RecordingMover) -> Execution:
    return Execution(
        folder, device=torch.device("cpu"), mover=mover, piece_elements=SMALL_PIECE, band_elements=SMALL_PIECE
    )


@pytest.fixture
def video(
    held: Execution, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[[str], torch.Tensor]:
    return lambda plan: run(held, plan, make_request(), make_image()).latents


def weights(held: Execution) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor.clone()
        for part in NETWORKS
        for name, tensor in getattr(held.components, part).state_dict().items()
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_nothing_is_there_before_a_plan_is_used(held: Execution) -> None:
    assert held.plan is None
    assert held.resident_bytes() == 0
    with pytest.raises(RuntimeError, match="never loaded"):
        _ = held.components
    with pytest.raises(RuntimeError, match="not loaded"), held.loaded("vae"):
        raise AssertionError
    with pytest.raises(KeyError):
        held.use("fp8")


def test_every_plan_can_follow_every_other(held: Execution, video: Callable[[str], torch.Tensor]) -> None:
    plans = ["fp32", "fp16", "fp16-offload", "fp16-streamed", "int8"]
    first = {plan: video(plan) for plan in plans}
    for before, after in itertools.permutations(plans, 2):
        held.use(before)
        assert torch.equal(video(after), first[after]), f"{after} after {before}"


def test_a_leaner_plan_holds_less_between_jobs(held: Execution) -> None:
    held_bytes = {}
    for plan in ("fp32", *HALF_PLANS, "int8"):
        held.use(plan)
        held_bytes[plan] = held.resident_bytes()
    assert held_bytes["fp16"] == pytest.approx(held.folder.weights_bytes, rel=0.01)
    assert held_bytes["fp16"] == held_bytes["fp16-chunked"] > held_bytes["fp16-offload"] > held_bytes["fp16-streamed"]
    assert 1.9 < held_bytes["fp32"] / held_bytes["fp16"] <= 2
    assert held_bytes["int8"] < held_bytes["fp16-chunked"]


def test_without_a_memory_of_its_own_the_device_holds_all(folder: ModelFolder) -> None:
    plain = Execution(folder, device=torch.device("cpu"))
    plain.use("fp16")
    whole = plain.resident_bytes()
    plain.use("fp16-streamed")
    assert plain.resident_bytes() == whole


def test_parts_are_brought_only_where_the_plan_parks_them(held: Execution, mover: RecordingMover) -> None:
    for plan, brought in (("fp16-chunked", 0), ("fp16-offload", 1), ("fp16-streamed", 1)):
        held.use(plan)
        for part in ("text_encoder", "image_encoder", "vae"):
            mover.events.clear()
            with held.loaded(part), held.loaded(part):
                assert len(mover.events) == brought
        mover.events.clear()
        with held.loaded("unet"):
            assert mover.events == [], "the UNet stays, or brings its blocks itself"


def test_the_networks_stay_the_same_objects(held: Execution) -> None:
    held.use("fp32")
    before = [getattr(held.components, part) for part in NETWORKS]
    parts = held.components
    for plan in ("int8", "fp16-streamed", "fp16"):
        held.use(plan)
        held.unload()
    held.use("fp16-offload")
    assert held.components is parts
    assert all(getattr(parts, part) is network for part, network in zip(NETWORKS, before, strict=True))


@pytest.mark.parametrize("between", ["fp32", "fp16-streamed", "int8", "unload", "bfloat16"])
def test_weights_come_back_as_they_were(between: str, held: Execution) -> None:
    held.use("fp16")
    before = weights(held)
    if between == "unload":
        held.unload()
    elif between == "bfloat16":
        held.unet_dtype(torch.bfloat16)
        held.vae_dtype(torch.bfloat16)
        assert held.components.unet.dtype == held.components.vae.dtype == torch.bfloat16
    else:
        held.use(between)
    held.use("fp16")
    assert same(weights(held), before)


def test_weights_of_a_float32_file_are_read_again_after_float16(tiny_path: Path, tmp_path: Path) -> None:
    """Only what the file itself holds in float16 is as good after a cast there and back."""
    for source in tiny_path.rglob("*"):
        target = tmp_path / source.relative_to(tiny_path)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif source.name.endswith(".fp16.safetensors"):
            target.parent.mkdir(parents=True, exist_ok=True)
            tensors = {name: tensor.float() + 1e-5 for name, tensor in load_file(source).items()}
            save_file(tensors, target.with_name(source.name.replace(".fp16", "")), metadata={"format": "pt"})
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    held = Execution(model_folder.inspect(tmp_path), device=torch.device("cpu"))
    held.use("fp32")
    before = weights(held)
    held.use("fp16")
    held.use("fp32")
    assert same(weights(held), before)


def test_one_part_may_be_held_in_another_precision_until_told_otherwise(held: Execution) -> None:
    held.use("fp16-streamed")
    held.unet_dtype(torch.bfloat16)
    held.vae_dtype(torch.float32)
    assert (held.components.unet.dtype, held.components.vae.dtype) == (torch.bfloat16, torch.float32)
    held.vae_dtype(None)
    assert held.components.vae.dtype == torch.float16
    assert held.components.unet.dtype == torch.bfloat16
    held.use("fp16-streamed")
    assert held.components.unet.dtype == torch.float16, "the plan's own again"


def test_a_plan_in_use_costs_nothing_to_use_again(
    held: Execution, mover: RecordingMover, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.use("fp16-streamed")
    mover.events.clear()
    pointers = [tensor.data_ptr() for part in NETWORKS for tensor in getattr(held.components, part).parameters()]
    monkeypatch.setattr(execution, "load_network", None)
    held.use("fp16-streamed")
    held.unet_dtype(None)
    held.vae_dtype(None)
    assert mover.events == []
    assert pointers == [
        tensor.data_ptr() for part in NETWORKS for tensor in getattr(held.components, part).parameters()
    ]


def test_what_was_held_is_given_back_before_more_is_read(held: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    held.use("fp16")
    read: list[str] = []

    def load(folder: ModelFolder, part: str, dtype: torch.dtype) -> Any:
        assert {tensor.device.type for tensor in getattr(held.components, part).parameters()} == {"meta"}
        read.append(part)
        return components.load_network(folder, part, dtype)

    monkeypatch.setattr(execution, "load_network", load)
    held.use("int8")
    assert read == ["unet"]
    held.use("fp16")
    assert read == ["unet"] * 2


def test_unloaded_means_no_weights_anywhere(held: Execution, video: Callable[[str], torch.Tensor]) -> None:
    expected = video("fp16-offload")
    held.unload()
    assert held.plan is None
    assert held.resident_bytes() == 0
    for part in NETWORKS:
        network = getattr(held.components, part)
        assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"meta"}
    with pytest.raises(RuntimeError, match="not loaded"):
        held.unet_dtype(torch.bfloat16)
    held.unload()
    assert torch.equal(video("fp16-offload"), expected)


@pytest.mark.parametrize("part", NETWORKS)
def test_a_plan_that_cannot_be_loaded_leaves_nothing_and_can_be_tried_again(
    part: str, held: Execution, video: Callable[[str], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: ModelFolder, wanted: str, dtype: torch.dtype) -> Any:
        if wanted == part:
            raise torch.OutOfMemoryError("no room")
        return components.load_network(folder, wanted, dtype)

    with monkeypatch.context() as patch:
        patch.setattr(execution, "load_network", load)
        with pytest.raises(torch.OutOfMemoryError):
            held.use("fp16")
        assert held.plan is None
        assert held.resident_bytes() == 0
    assert torch.isfinite(video("fp16")).all()


def test_without_torchao_eight_bits_are_refused_by_name(held: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    held.use("fp16")
    with pytest.raises(QuantizationUnavailable, match=r"install reelq\[quantize\]"):
        held.use("int8")
    assert held.plan is None
    held.use("fp16")
    assert held.plan == "fp16"


def test_eight_bits_are_the_linear_layers_of_the_unet_alone(held: Execution) -> None:
    held.use("int8")
    quantized = [
        module
        for module in held.components.unet.modules()
        if type(getattr(module, "weight", None)).__name__ == "Int8Tensor"
    ]
    assert quantized
    assert all(isinstance(module, torch.nn.Linear) for module in quantized)
    for part in ("vae", "text_encoder", "image_encoder"):
        network = getattr(held.components, part)
        assert {tensor.dtype for tensor in network.parameters()} == {torch.float16}
