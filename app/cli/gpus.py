"""The operator's commands: gpus, drain, resume."""

from typing import Annotated

import typer

from app.cli.console import print_json, say
from app.cli.gpu_table import show_gpus
from app.cli.session import DEFAULT_URL, AsJson, Url, session

GpuId = Annotated[str, typer.Argument(metavar="GPU", help="The GPU's id, as `reelq gpus` shows it.")]


def gpus(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show every GPU: its state, memory, load, worker and running jobs."""
    with session(url, as_json=as_json) as client:
        page = client.gpus()
        if as_json:
            print_json(page)
        elif page["data"]:
            show_gpus(page["data"])
        else:
            say("no GPU has registered; is a worker running?")


def drain(
    gpu_id: GpuId,
    reason: Annotated[str, typer.Option(help="Why, for whoever finds the GPU drained.")],
    mode: Annotated[str, typer.Option(help="What happens to running jobs; finish: they end first.")] = "finish",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Give a GPU no new jobs and let it empty."""
    with session(url, as_json=as_json) as client:
        gpu = client.drain(gpu_id, reason, mode)
        print_json(gpu) if as_json else show_gpus([gpu])


def resume(gpu_id: GpuId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Give a drained GPU jobs again."""
    with session(url, as_json=as_json) as client:
        gpu = client.resume(gpu_id)
        print_json(gpu) if as_json else show_gpus([gpu])
