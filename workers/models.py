"""Which model a host serves: what `--model` means, and how the catalog and the store name it."""

from dataclasses import dataclass
from pathlib import Path

from scheduler import catalog
from scheduler.catalog import I2VGEN_XL, I2VGEN_XL_TINY, TINY, TINY_MODEL_ID, Architecture
from scheduler.records import ServedModel
from workers.model_folder import ModelFolder, ModelFolderError, inspect, locate

AUTO = "auto"
DEFAULT_HUB_ID = "ali-vilab/i2vgen-xl"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model to serve; `folder` is None for the tiny model until a worker has made it."""

    served: ServedModel
    folder: ModelFolder | None

    @property
    def architecture(self) -> Architecture:
        """What the catalog knows of it."""
        return catalog.architecture(self.served.architecture)


def choose(model: str, *, kind: str, models_dir: Path) -> ModelChoice:
    """Return the model that `--model` names, for devices of `kind`; downloads a hub id when it must.

    Raises `ModelFolderError` with one line. `auto` is the published model on a GPU, and the tiny one without.
    """
    if model == AUTO:
        model = TINY if kind == "cpu" else DEFAULT_HUB_ID
    if model in (TINY, TINY_MODEL_ID):
        served = ServedModel(TINY_MODEL_ID, I2VGEN_XL_TINY, catalog.TINY_WEIGHTS_BYTES, catalog.TINY_REVISION)
        return ModelChoice(served, None)
    folder = locate(model, models_dir=models_dir)
    name = folder.path.name if Path(model).is_dir() else model
    return ModelChoice(ServedModel(name, I2VGEN_XL, folder.weights_bytes, folder.fingerprint), folder)


def tiny_folder(models_dir: Path) -> ModelFolder:
    """Return the tiny model's folder, made on first use. Imports torch: for worker processes only.

    Raises `ModelFolderError` where it cannot be made or is damaged.
    """
    path = models_dir / f"tiny-{catalog.TINY_REVISION}"
    if not path.is_dir():
        from workers.pipelines.tiny import make_tiny

        try:
            make_tiny(path)
        except OSError as error:
            raise ModelFolderError(f"the tiny model cannot be made at {path}: {error.strerror or error}") from error
    return inspect(path, name=TINY_MODEL_ID)
