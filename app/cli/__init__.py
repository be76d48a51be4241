"""The command line: `reelq`. Its modules import httpx, FastAPI and the like inside commands, so that it starts fast."""


def main() -> None:
    """Run the command line; the console entry point `reelq`."""
    from app.cli.root import build

    build()(prog_name="reelq")
