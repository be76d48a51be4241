"""Weights in host memory: brought when they are used, the next ones while these still are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.support.movers import RecordingMover
from workers.pipelines.residency import HostCopy, Mover, Parked, Streamed

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 5


class Layers(torch.nn.Module):
    """Linear layers of different sizes, one after the other, with a buffer of whole numbers beside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(3 + index, 4 + index) for index in range(COUNT))
        self.register_buffer("positions", torch.arange(3))
        self.requires_grad_(requires_grad=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            values = layer(values)
        return values


@pytest.fixture
def layers() -> Layers:
    return Layers()


@pytest.fixture
def compute(layers: Layers) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return layers(torch.arange(6.0).view(2, 3))

    return run


def in_memory(tensor: torch.Tensor, memory: torch.Tensor) -> bool:
    return memory.data_ptr() <= tensor.data_ptr() < memory.data_ptr() + len(memory)


def test_a_host_copy_is_the_module_itself(layers: Layers, compute: Callable[[], torch.Tensor]) -> None:
    expected = compute()
    parameters = list(layers.parameters())
    copy = HostCopy(layers, Mover())
    assert torch.equal(compute(), expected)
    assert all(now is before for now, before in zip(layers.parameters(), parameters, strict=True))
    assert all(in_memory(tensor, copy.memory) for tensor in (*layers.parameters(), layers.positions))
    assert layers.positions.tolist() == [0, 1, 2]
    assert copy.weights_bytes == sum(tensor.nbytes for tensor in (*layers.parameters(), layers.positions))
    assert all(tensor.data_ptr() % 4 == 0 for tensor in layers.parameters())


def test_a_parked_network_is_on_the_device_while_anybody_uses_it(
    layers: Layers, compute: Callable[[], torch.Tensor]
) -> None:
    expected = compute()
    mover = RecordingMover()
    parked = Parked(layers, mover)
    host = layers.positions.data_ptr()
    first, second = parked.used(), parked.used()
    first.__enter__()
    assert layers.positions.data_ptr() != host
    second.__enter__()
    first.__exit__(None, None, None)
    assert layers.positions.data_ptr() != host, "the second still uses it"
    assert torch.equal(compute(), expected)
    second.__exit__(None, None, None)
    assert layers.positions.data_ptr() == host
    assert [event for event, _ in mover.events] == ["bring"], "one copy, and none back"


def test_a_network_that_finds_no_room_stays_on_the_host(layers: Layers) -> None:
    class Full(Mover):
        def bring(self, host: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError(f"no room for {len(host)}")

    parked = Parked(layers, Full())
    host = layers.positions.data_ptr()
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError), parked.used():
            raise AssertionError
        assert layers.positions.data_ptr() == host


def test_a_use_that_outlives_the_parking_does_no_harm(layers: Layers, compute: Callable[[], torch.Tensor]) -> None:
    expected = compute()
    parked = Parked(layers, RecordingMover())
    use = parked.used()
    use.__enter__()
    parked.close()
    moved = layers.positions.clone()
    layers.positions.data = moved
    use.__exit__(None, None, None)
    assert layers.positions.data_ptr() == moved.data_ptr()
    assert torch.equal(compute(), expected)


def test_streamed_layers_compute_what_they_did(layers: Layers, compute: Callable[[], torch.Tensor]) -> None:
    expected = compute()
    Streamed(list(layers.layers), RecordingMover())
    for _ in range(3):
        assert torch.equal(compute(), expected)


def test_the_next_layer_comes_in_while_one_runs(layers: Layers, compute: Callable[[], torch.Tensor]) -> None:
    mover = RecordingMover()
    Streamed(list(layers.layers), mover)
    compute()  # the order is learned
    compute()
    mover.events.clear()
    compute()
    kinds = [kind for kind, _ in mover.events]
    assert kinds == ["begin", "fetch", "end"] * COUNT, "one copy a layer, each while the one before it runs"
    for begin, fetch in zip(mover.events[::3], mover.events[1::3], strict=True):
        assert begin[1] != fetch[1]


def test_two_slots_of_the_largest_layer_are_all_that_streaming_takes(layers: Layers) -> None:
    mover = RecordingMover()
    streamed = Streamed(list(layers.layers), mover)
    largest = max(HostCopy(layer, Mover()).size_bytes for layer in layers.layers)
    assert [slot.size_bytes for slot in mover.slots] == [largest] * 2
    assert streamed.slots_bytes == 2 * largest
    assert streamed.weights_bytes == sum(tensor.nbytes for tensor in layers.layers.parameters())


@pytest.mark.parametrize("failing", range(COUNT))
def test_streaming_goes_on_after_a_layer_that_raised(
    failing: int, layers: Layers, compute: Callable[[], torch.Tensor]
) -> None:
    expected = compute()
    Streamed(list(layers.layers), RecordingMover())
    compute()
    original = layers.layers[failing].forward

    def fail(_values: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    layers.layers[failing].forward = fail
    with pytest.raises(torch.OutOfMemoryError):
        compute()
    layers.layers[failing].forward = original
    for _ in range(2):
        assert torch.equal(compute(), expected)


def test_after_streaming_the_weights_are_the_hosts(layers: Layers, compute: Callable[[], torch.Tensor]) -> None:
    expected = compute()
    mover = RecordingMover()
    streamed = Streamed(list(layers.layers), mover)
    compute()
    streamed.close()
    mover.events.clear()
    assert torch.equal(compute(), expected)
    assert mover.events == []
    assert streamed.slots_bytes == 0
