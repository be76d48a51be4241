"""Loading a folder: what the published layout may hold, and one clear line for each way it can be wrong."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from workers import model_folder
from workers.model_folder import ModelFolderError
from workers.pipelines.components import WrongWeights, load_components

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers.pipelines.components import Components
    from workers.pipelines.i2vgen_xl import I2VGenXL

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
VAE = "vae/diffusion_pytorch_model.fp16.safetensors"
TEXT = "text_encoder/model.fp16.safetensors"
VIEW = "image_encoder/model.fp16.safetensors"


@pytest.fixture
def path(tiny_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny folder to break."""
    return shutil.copytree(tiny_path, tmp_path / "broken")


def load(path: Path) -> Components:
    folder = model_folder.inspect(path)
    return load_components(folder, device=torch.device("cpu"), dtype=torch.float32)


def edit(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def test_models_are_ready_for_inference_in_the_dtype_asked_for(tiny: I2VGenXL) -> None:
    parts = tiny.execution.components
    for model in (parts.unet, parts.vae, parts.text_encoder, parts.image_encoder):
        assert not model.training
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("file", [UNET, VAE, TEXT, VIEW])
def test_every_weight_is_the_files_own(file: str, tiny: I2VGenXL, tiny_path: Path) -> None:
    loaded = getattr(tiny.execution.components, file.split("/", maxsplit=1)[0]).state_dict()
    stored = {name.removeprefix("text_model."): tensor for name, tensor in load_file(tiny_path / file).items()}
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name].float()) for name in stored)


@pytest.mark.parametrize("file", [UNET, VAE, TEXT, VIEW])
@pytest.mark.parametrize("fault", ["renamed", "reshaped", "dropped", "added"])
def test_weights_that_do_not_fit_are_refused(file: str, fault: str, path: Path) -> None:
    name = sorted(load_file(path / file))[3]

    def change(tensors: dict[str, torch.Tensor]) -> None:
        if fault == "renamed":
            tensors[name + "x"] = tensors.pop(name)
        elif fault == "reshaped":
            tensors[name] = torch.zeros(3, 5, dtype=torch.float16)
        elif fault == "dropped":
            del tensors[name]
        else:
            tensors["stray.weight"] = torch.zeros(2, dtype=torch.float16)

    edit(path / file, change)
    named = "stray.weight" if fault == "added" else name.removeprefix("text_model.")
    with pytest.raises(WrongWeights) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(file.split("/", maxsplit=1)[0] + ": ")
    assert named in message
    assert "\n" not in message


def test_position_ids_that_older_exports_carry_are_no_fault(path: Path) -> None:
    edit(
        path / TEXT,
        lambda tensors: tensors.update({"text_model.embeddings.position_ids": torch.arange(77)[None]}),
    )
    edit(
        path / VIEW,
        lambda tensors: tensors.update({"vision_model.embeddings.position_ids": torch.arange(17)[None]}),
    )
    assert load(path).text_encoder.embeddings.position_ids.shape == (1, 77)


def test_plain_weights_are_loaded_where_there_is_no_variant(path: Path) -> None:
    for file in (UNET, VAE, TEXT, VIEW):
        (path / file).rename(path / file.replace(".fp16", ""))
    folder = model_folder.inspect(path)
    assert folder.variant is None
    assert load(path).unet.dtype == torch.float32


def test_a_config_that_the_weights_do_not_fit_is_refused(path: Path) -> None:
    config = json.loads((path / "unet/config.json").read_text())
    (path / "unet/config.json").write_text(json.dumps({**config, "cross_attention_dim": 24}))
    with pytest.raises(WrongWeights, match=r"unet: tensor .* has another shape"):
        load(path)


def test_a_file_cut_short_is_refused_before_anything_is_loaded(path: Path) -> None:
    content = (path / UNET).read_bytes()
    (path / UNET).write_bytes(content[:-100])
    with pytest.raises(ModelFolderError, match=r"unet.*truncated"):
        load(path)


def test_a_folder_without_a_component_is_refused(path: Path) -> None:
    shutil.rmtree(path / "vae")
    with pytest.raises(ModelFolderError, match="vae/ is missing"):
        load(path)


def test_pickled_weights_are_never_loaded(path: Path) -> None:
    (path / VAE).unlink()
    (path / "vae/diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelFolderError, match=r"diffusion_pytorch_model\.bin is a pickle"):
        load(path)


def test_loading_says_nothing(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(path)
    out, err = capfd.readouterr()
    assert out + err == ""
