"""`python -m app.cli` is `reelq`."""

from app.cli import main

main()
