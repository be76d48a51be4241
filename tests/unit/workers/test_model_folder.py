"""Checking and finding a model folder: each fault is one line that says what and where."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest

from workers.model_folder import ModelFolderError, inspect, locate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HUB_ID = "ali-vilab/i2vgen-xl"
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "image_encoder": "model",
}
INDEX = {
    "_class_name": "I2VGenXLPipeline",
    "unet": ["diffusers", "I2VGenXLUNet"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
}


def safetensors(tensor_bytes: int = 64, fill: int = 0) -> bytes:
    half = tensor_bytes // 2
    tensors = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F16", "shape": [half // 2], "data_offsets": [0, half]},
        "b": {"dtype": "F16", "shape": [half // 2], "data_offsets": [half, tensor_bytes]},
    }
    header = json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + bytes([fill]) * tensor_bytes


def write_model(path: Path, variants: tuple[str, ...] = (".fp16",)) -> Path:
    configs = [f"{part}/config.json" for part in STEMS]
    configs += ["feature_extractor/preprocessor_config.json", "scheduler/scheduler_config.json"]
    for file in [*configs, "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"]:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text("{}")
    for variant in variants:
        for part, stem in STEMS.items():
            (path / part / f"{stem}{variant}.safetensors").write_bytes(safetensors())
    (path / "model_index.json").write_text(json.dumps(INDEX))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.mark.parametrize(("variants", "expected"), [((".fp16",), "fp16"), (("",), None), (("", ".fp16"), "fp16")])
def test_a_whole_folder_is_described(variants: tuple[str, ...], expected: str | None, tmp_path: Path) -> None:
    folder = inspect(write_model(tmp_path / "model", variants), name="it")
    assert (folder.name, folder.path, folder.variant) == ("it", tmp_path / "model", expected)
    assert folder.weights_bytes == 4 * 64
    assert len(folder.fingerprint) == 16
    assert inspect(tmp_path / "model").name == str(tmp_path / "model")


def test_a_fingerprint_is_the_contents_and_not_the_places(path: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(path, tmp_path / "moved")
    assert inspect(moved).fingerprint == inspect(path).fingerprint


@pytest.mark.parametrize("change", ["config", "shape", "values"])
def test_a_fingerprint_changes_with_the_contents(change: str, path: Path) -> None:
    before = inspect(path).fingerprint
    if change == "config":
        (path / "scheduler/scheduler_config.json").write_text('{"steps_offset": 1}')
    else:
        content = safetensors(128) if change == "shape" else safetensors(fill=1)
        (path / "vae/diffusion_pytorch_model.fp16.safetensors").write_bytes(content)
    assert inspect(path).fingerprint != before


def index_of(**changes: object) -> str:
    return json.dumps({**INDEX, **changes})


UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "not there"),
    "no index": (lambda path: (path / "model_index.json").unlink(), r"model_index\.json is missing"),
    "index no json": (lambda path: (path / "model_index.json").write_text("<html>"), "not JSON"),
    "index no object": (lambda path: (path / "model_index.json").write_text("[]"), "not a JSON object"),
    "other pipeline": (
        lambda path: (path / "model_index.json").write_text(index_of(_class_name="FluxPipeline")),
        "'FluxPipeline', not 'I2VGenXLPipeline'",
    ),
    "other unet": (
        lambda path: (path / "model_index.json").write_text(index_of(unet=["diffusers", "UNet2DModel"])),
        "unet is 'UNet2DModel', not 'I2VGenXLUNet'",
    ),
    "no vae": (lambda path: shutil.rmtree(path / "vae"), "vae/ is missing"),
    "no tokenizer": (lambda path: shutil.rmtree(path / "tokenizer"), "tokenizer/ is missing"),
    "no config": (lambda path: (path / "vae/config.json").unlink(), r"vae/config\.json is missing"),
    "config no json": (lambda path: (path / "vae/config.json").write_text("x"), r"vae/config\.json is not JSON"),
    "config a folder": (
        lambda path: ((path / "vae/config.json").unlink(), (path / "vae/config.json").mkdir()),
        r"vae/config\.json cannot be read: Is a directory",
    ),
    "no weights": (lambda path: (path / UNET).unlink(), r"unet/.*fp16\.safetensors is missing"),
    "pickle": (
        lambda path: (path / UNET).rename(path / "unet/diffusion_pytorch_model.bin"),
        r"diffusion_pytorch_model\.bin is a pickle",
    ),
    "cut short": (lambda path: (path / UNET).write_bytes(safetensors()[:-1]), "truncated: [0-9]+ bytes of"),
    "cut in header": (lambda path: (path / UNET).write_bytes(safetensors()[:40]), "truncated or not safetensors"),
    "empty": (lambda path: (path / UNET).write_bytes(b""), "truncated or not safetensors"),
    "too long": (lambda path: (path / UNET).write_bytes(safetensors() + b"x"), "too long"),
    "not safetensors": (lambda path: (path / UNET).write_bytes(b"PK\x03\x04" * 99), "truncated or not safetensors"),
    "header no json": (
        lambda path: (path / UNET).write_bytes((4).to_bytes(8, "little") + b"oops"),
        "is not JSON",
    ),
    "header damaged": (
        lambda path: (path / UNET).write_bytes((9).to_bytes(8, "little") + b'{"a":{} }'),
        "damaged header",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_the_place(fault: str, path: Path) -> None:
    spoil, message = FAULTS[fault]
    spoil(path)
    with pytest.raises(ModelFolderError, match=message) as caught:
        inspect(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_directory_is_taken_as_it_is(path: Path, tmp_path: Path) -> None:
    assert locate(str(path), models_dir=tmp_path) == inspect(path)


@pytest.mark.parametrize("model", ["./nowhere", "/no/where", "~/nowhere", "nowhere", "a/b/c", "../x"])
def test_what_is_no_folder_and_no_hub_id_is_refused_without_asking_the_hub(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    with pytest.raises(ModelFolderError, match="no such folder"):
        locate(model, models_dir=tmp_path)


def test_a_file_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="is a file, not a folder"):
        locate(str(path / "model_index.json"), models_dir=tmp_path)
    with pytest.raises(ModelFolderError, match="a file, not a folder"):
        inspect(path / "model_index.json")


def write_hub_cache(cache: Path) -> Path:
    """The cache layout of huggingface_hub: refs/main names the snapshot's folder."""
    root = cache / "models--ali-vilab--i2vgen-xl"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (root / "refs").mkdir(parents=True)
    (root / "refs/main").write_text(revision)
    return write_model(root / "snapshots" / revision)


@pytest.mark.parametrize("where", ["models_dir", "user_cache"])
def test_a_hub_id_in_a_local_cache_needs_no_network(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = write_hub_cache(tmp_path / where)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "user_cache"))
    folder = locate(HUB_ID, models_dir=tmp_path / "models_dir")
    assert (folder.name, folder.path, folder.variant) == (HUB_ID, snapshot, "fp16")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that holds what `published` says, and remembers what it was asked for."""
    state: dict[str, Any] = {"published": (".fp16", ""), "asked": []}

    def snapshot_download(repo_id: str, cache_dir: Path | None, **options: Any) -> str:
        if options.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        state["asked"].append(options["allow_patterns"])
        if isinstance(state["published"], Exception):
            raise state["published"]
        wanted = [
            variant
            for variant in state["published"]
            if f"unet/diffusion_pytorch_model{variant}.safetensors" in options["allow_patterns"]
        ]
        return str(write_model(cache_dir / "snapshot", tuple(wanted)))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


@pytest.mark.parametrize(("published", "variant"), [((".fp16", ""), "fp16"), (("",), None)])
def test_a_download_asks_for_fp16_first_and_never_for_pickles(
    published: tuple[str, ...], variant: str | None, hub: dict[str, Any], tmp_path: Path
) -> None:
    hub["published"] = published
    folder = locate(HUB_ID, models_dir=tmp_path)
    assert (folder.name, folder.variant) == (HUB_ID, variant)
    assert len(hub["asked"]) == (1 if variant else 2)
    patterns = [pattern for asked in hub["asked"] for pattern in asked]
    assert all(pattern.endswith((".json", ".txt", ".safetensors")) for pattern in patterns)


def test_a_download_that_fails_is_one_line(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["published"] = ConnectionError("no route\nto host")
    with pytest.raises(ModelFolderError, match=r"ali-vilab/i2vgen-xl is not on this machine.*: no route$"):
        locate(HUB_ID, models_dir=tmp_path)


def test_neither_this_module_nor_the_request_costs_an_import_of_torch() -> None:
    program = (
        "import sys, workers.model_folder, workers.pipelines.request\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
