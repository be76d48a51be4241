"""How the loaded model is run: under which plan, hence how much of it lies on the device, and in what precision."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from scheduler.plans import PLANS, Precision, Technique
from workers.pipelines import chunking, quantize, residency, runtime, tiling
from workers.pipelines.components import NETWORKS, Components, assemble, load_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.model_folder import ModelFolder
    from workers.pipelines.residency import Mover, Parked, Streamed

_CHUNKED = (Technique.CHUNKED, Technique.OFFLOADED, Technique.STREAMED)
_PARKED = {
    Technique.WHOLE: (),
    Technique.CHUNKED: (),
    Technique.OFFLOADED: ("text_encoder", "image_encoder", "vae"),
    Technique.STREAMED: ("text_encoder", "image_encoder", "vae"),
}
_BLOCKS = ("down_blocks", "mid_block", "up_blocks")


class Execution:
    """The components of one model folder, and the plan they are held for.

    The networks stay the same objects for as long as this one lives; what changes is where their weights are, and in
    what precision. One thread uses it.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: torch.device,
        mover: Mover | None = None,
        piece_elements: int = chunking.PIECE_ELEMENTS,
        band_elements: int = tiling.BAND_ELEMENTS,
    ) -> None:
        """Loads nothing yet. The sizes are those of `chunking` and `tiling`."""
        self.folder = folder
        self.plan: str | None = None
        self._device = device
        self._mover = mover or residency.mover(device)
        self._piece_elements = piece_elements
        self._band_elements = band_elements
        self._networks: dict[str, Any] = {}
        self._components: Components | None = None
        self._held: dict[str, Precision | torch.dtype] = {}
        self._parked: dict[str, Parked] = {}
        self._streamed: Streamed | None = None

    @property
    def components(self) -> Components:
        """The components; after `unload` their networks have no weights. Raises RuntimeError before `use`."""
        if self._components is None:
            raise RuntimeError("the model was never loaded")
        return self._components

    def use(self, plan: str) -> None:
        """Hold the model for `plan`, and give back what it does not need before taking what it does.

        Raises KeyError for a plan there is not, what loading raises (`components.load_components`,
        `quantize.QuantizationUnavailable`) and what running out of memory raises; then nothing is loaded.
        """
        wanted = PLANS[plan]
        precision = _dtype(wanted.precision)
        with self._unloading_on_failure():
            # Before the next part takes memory each has given back what it can: the UNet is the last.
            for part in NETWORKS:
                quantized = part == "unet" and wanted.precision is Precision.INT8
                self._hold(part, Precision.INT8 if quantized else precision)
                self._place(part, wanted.technique)
            if self._components is None:
                self._components = assemble(self.folder, self._networks, device=self._device, dtype=precision)
            self._components.dtype = precision
            self.plan = plan

    def unload(self) -> None:
        """Give the memory of all weights back, on the device and on the host, until the next `use`."""
        self.plan = None
        self._held.clear()
        for part, network in self._networks.items():
            self._take_down(part)
            network.to("meta")
        self._give_back()

    @contextlib.contextmanager
    def loaded(self, part: str) -> Iterator[None]:
        """Have `part` ("text_encoder", "image_encoder", "vae" or "unet") on the device inside.

        Under a plan that keeps it elsewhere it is brought for as long. Uses may overlap. Raises RuntimeError where
        nothing is loaded.
        """
        self._loaded_plan()
        parked = self._parked.get(part)
        with parked.used() if parked is not None else contextlib.nullcontext():
            yield

    def unet_dtype(self, dtype: torch.dtype | None) -> None:
        """Compute the UNet in `dtype` until the next `use`, or as the plan says (None). Raises as `use` does."""
        self._change("unet", dtype)

    def vae_dtype(self, dtype: torch.dtype | None) -> None:
        """Compute the VAE in `dtype` until the next `use`, or as the plan says (None). Raises as `use` does."""
        self._change("vae", dtype)

    def resident_bytes(self) -> int:
        """What the weights take on the device between two jobs, rooms for streamed ones included."""
        if self.plan is None:
            return 0
        total = sum(_weights_bytes(network) for network in self._networks.values())
        if not self._mover.apart:
            return total
        total -= sum(_weights_bytes(self._networks[part]) for part in self._parked)
        if self._streamed is not None:
            total += self._streamed.slots_bytes - self._streamed.weights_bytes
        return total

    def _change(self, part: str, dtype: torch.dtype | None) -> None:
        plan = PLANS[self._loaded_plan()]
        own = Precision.INT8 if part == "unet" and plan.precision is Precision.INT8 else _dtype(plan.precision)
        with self._unloading_on_failure():
            self._hold(part, own if dtype is None else dtype)
            self._place(part, plan.technique)

    def _hold(self, part: str, wanted: Precision | torch.dtype) -> None:
        """Have the weights of `part` in `wanted`, wherever they lie."""
        held = self._held.get(part)
        if held == wanted:
            return
        self._take_down(part)
        self._held.pop(part, None)
        if held is not None and self._is_exact(held) and isinstance(wanted, torch.dtype):
            # Not the class's own `to`, which warns of parts that other models keep in float32.
            torch.nn.Module.to(self._networks[part], wanted)
        else:
            self._load(part, wanted)
        self._held[part] = wanted

    def _load(self, part: str, wanted: Precision | torch.dtype) -> None:
        """Read the weights of `part` into host memory, after what was held of it has been given back."""
        network = self._networks.get(part)
        if network is not None:
            network.to("meta")
            self._give_back()
        fresh = load_network(self.folder, part, wanted if isinstance(wanted, torch.dtype) else torch.float16)
        if wanted is Precision.INT8:
            quantize.quantize_linears(fresh)
        if network is None:
            self._networks[part] = fresh
        else:
            _adopt(network, fresh)

    def _is_exact(self, held: Precision | torch.dtype) -> bool:
        """Whether weights in `held` are as good as those in the file: where a cast came between, some are not."""
        return held == torch.float32 or (held == torch.float16 and self.folder.variant == "fp16")

    def _place(self, part: str, technique: Technique) -> None:
        """Put the weights of `part` where `technique` keeps them, and have it computed as that says."""
        network = self._networks[part]
        if part in _PARKED[technique]:
            if part not in self._parked:
                self._parked[part] = residency.Parked(network, self._mover)
        elif part == "unet" and technique is Technique.STREAMED:
            if self._streamed is None:
                self._streamed = residency.Streamed(_blocks_modules(network), self._mover)
                for name, child in network.named_children():
                    if name not in _BLOCKS:
                        child.to(self._device)
        else:
            self._take_down(part)
            network.to(self._device)
        if part == "unet":
            self._chunk(network, technique)
        elif part == "vae":
            self._tile(network, technique)

    def _chunk(self, network: Any, technique: Technique) -> None:
        if technique in _CHUNKED:
            chunking.install(network, self._piece_elements)
        else:
            chunking.remove(network)

    def _tile(self, network: Any, technique: Technique) -> None:
        if technique in _CHUNKED:
            tiling.install(network, self._band_elements)
        else:
            tiling.remove(network)

    def _take_down(self, part: str) -> None:
        """Undo what parking and streaming did: the weights stay on the host then."""
        parked = self._parked.pop(part, None)
        if parked is not None:
            parked.close()
        if part == "unet" and self._streamed is not None:
            self._streamed.close()
            self._streamed = None

    def _loaded_plan(self) -> str:
        if self.plan is None:
            raise RuntimeError("the model is not loaded")
        return self.plan

    @contextlib.contextmanager
    def _unloading_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.unload()
            raise

    def _give_back(self) -> None:
        gc.collect()
        runtime.empty_cache(self._device)
        if self._device.type == "cuda":
            torch.accelerator.empty_host_cache()


def _dtype(precision: Precision) -> torch.dtype:
    """What is computed in."""
    return torch.float32 if precision is Precision.FLOAT32 else torch.float16


def _blocks_modules(unet: Any) -> list[torch.nn.Module]:
    """What the UNet's blocks consist of: residual blocks, convolutions over time, transformers, resamplers."""
    return [
        module
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
        for group in block.children()
        if isinstance(group, torch.nn.ModuleList)
        for module in group
    ]


def _adopt(network: torch.nn.Module, fresh: torch.nn.Module) -> None:
    """Give `network` the weights of `fresh`, of the same architecture: whoever holds it keeps it."""
    for module, source in zip(network.modules(), fresh.modules(), strict=True):
        module._parameters.update(source._parameters)  # noqa: SLF001  register_parameter would take each for new
        module._buffers.update(source._buffers)  # noqa: SLF001


def _weights_bytes(network: torch.nn.Module) -> int:
    return sum(_tensor_bytes(tensor) for tensor in (*network.parameters(), *network.buffers()))


def _tensor_bytes(tensor: torch.Tensor) -> int:
    if not is_traceable_wrapper_subclass(tensor):
        return int(tensor.nbytes)
    inner = (getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
    return sum(_tensor_bytes(part) for part in inner)
