"""The model that the benchmark makes has the published size."""

from benchmarks.gpu.weights import networks


def test_the_networks_have_the_published_sizes() -> None:
    sizes = {
        part: round(sum(tensor.numel() for tensor in network.state_dict().values()) / 1e6)
        for part, network in networks().items()
    }
    assert sizes == {"unet": 1420, "vae": 84, "text_encoder": 340, "image_encoder": 632}
